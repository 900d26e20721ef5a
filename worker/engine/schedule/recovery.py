"""Tries a row alone, after it was in a batch whose step failed."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from worker.engine.cache import kv as caches
from worker.engine.cache.kv import Cache
from worker.engine.model.model import LoadedModel
from worker.engine.schedule.batch import Chosen, DecodeBatch, Row


def try_alone(model: LoadedModel, rows: Sequence[Row], cache: Cache) -> None:
    """Run one step of these rows on copies of their state; raises what it raises."""
    batch = DecodeBatch(model)
    twins = [_twin(row) for row in rows]
    batch.join(twins, caches.snapshot(cache), is_batch=False)
    for _ in range(2):  # one step to start the tokens, one to read them
        batch.step(_ignore)


def _twin(row: Row) -> Row:
    grammar = row.grammar.fork() if row.grammar is not None else None
    return dataclasses.replace(row, output_tokens=list(row.output_tokens), grammar=grammar)


def _ignore(chosen: list[Chosen]) -> None:
    """The trial's tokens are chosen again in the batch, and come out the same."""

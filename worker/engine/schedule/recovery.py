"""Tries a row alone, after it was in a batch whose step failed."""

from __future__ import annotations

import copy

from worker.engine.cache import kv as caches
from worker.engine.cache.kv import Cache
from worker.engine.model.model import LoadedModel
from worker.engine.schedule.batch import DecodeBatch
from worker.engine.schedule.sequences import Chosen, Rows, Sequence


def try_alone(model: LoadedModel, rows: Rows, cache: Cache) -> None:
    """Run one step of these rows on copies of their state; raises what it raises."""
    batch = DecodeBatch(model)
    twins = [_twin(row) for row in rows]
    batch.join(twins, caches.snapshot(cache), is_batch=False)
    for _ in range(2):  # one step to start the tokens, one to read them
        batch.step(_ignore)


def _twin(row: Sequence) -> Sequence:
    """A row of its own at the same place. It shares the answer, which the trial only reads."""
    twin = copy.copy(row)
    twin.drafts = None
    twin.grammar = row.grammar.fork() if row.grammar is not None else None
    return twin


def _ignore(chosen: list[Chosen]) -> None:
    """The trial's tokens are chosen again in the batch, and come out the same."""

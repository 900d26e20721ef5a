"""What wider passes cost on this machine with this model, timed once before the first request."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from functools import partial

import mlx.core as mx

from worker.engine.cache.kv import Cache
from worker.engine.cache.slots import SlotCache
from worker.engine.drafts.policy import MOST_PLACES, Costs
from worker.engine.model.model import LoadedModel
from worker.engine.sampling.sampling import Rules, Sampler

log = logging.getLogger(__name__)

FED = 8
"""Tokens that each row has before."""
ROWS, EXTRAS = (1, 8, 32), (0, 1, 4, 16)
TURNS = 3
ENOUGH_S = 1.0
"""After so long no more rows are timed: what they cost follows from fewer."""
HOT = Rules(1, 1.0, 1.0, 0, 0.0, 1.0, 0.0, 0.0, {})


def measured(model: LoadedModel, drafter: LoadedModel | None = None) -> Costs:
    """Time passes, logits and drawing included; the widest that there may be take memory, too.

    Args:
        drafter: a model that drafts, whose passes are timed beside.

    Raises:
        Exception: what a model trips over.
    """
    started = time.perf_counter()
    row = _fed(model)
    table: dict[int, dict[int, float]] = {}
    drafting: dict[int, float] = {}
    for rows in ROWS:
        if table and time.perf_counter() - started > ENOUGH_S:
            break
        cache = _side_by_side(row, rows)
        extras = [extra for extra in EXTRAS if rows * (1 + extra) <= max(MOST_PLACES, rows)]
        spent_s = {extra: _fastest(partial(_pass, model, cache, 1 + extra)) for extra in extras}
        table[rows] = _rising({extra: spent_s[extra] / spent_s[0] for extra in extras[1:]})
        if drafter is not None:
            its = _side_by_side(_fed(drafter), rows)
            drafting[rows] = _fastest(partial(_pass, drafter, its, 1)) / spent_s[0]
    log.debug("passes with drafts cost", extra={"fields": {"costs": table, "drafting": drafting}})
    return Costs(table, drafting)


def _fed(model: LoadedModel) -> Cache:
    row = model.new_cache()
    model.try_out(1, FED, row)
    return row


def _side_by_side(row: Cache, rows: int) -> SlotCache:
    cache = SlotCache(len(row))
    cache.join(row, [FED] * rows, is_batch=False)
    return cache


def _pass(model: LoadedModel, cache: SlotCache, width: int) -> None:
    """All rows get so many tokens each, and none is kept."""
    rows = cache.span
    tokens = mx.zeros((rows, width), mx.int32)
    deltas = mx.zeros((rows, 1), mx.int32) if model.uses_rope_deltas else None
    places = model.forward(tokens, cache.layers, rope_deltas=deltas).reshape(rows * width, -1)
    mx.eval(Sampler([HOT] * len(places), model.vocabulary).choose(places, [0] * len(places)))
    cache.advance([0] * rows)


def _fastest(work: Callable[[], None]) -> float:
    """Of a few turns, of which the first makes kernels and buffers."""
    taken = []
    for _ in range(TURNS):
        started = time.perf_counter()
        work()
        taken.append(time.perf_counter() - started)
    return min(taken)


def _rising(costs: dict[int, float]) -> dict[int, float]:
    """More tokens never take less time: what says so was disturbed."""
    rising, highest = {}, 1.0
    for extra, cost in sorted(costs.items()):
        highest = max(highest, cost)
        rising[extra] = highest
    return rising

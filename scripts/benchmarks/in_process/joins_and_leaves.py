"""What it costs those who stay when a row joins or leaves: bytes copied, and time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from worker.engine.model import blas

blas.load()

import mlx.core as mx  # noqa: E402
from mlx_vlm.models import cache as kv  # noqa: E402

from scripts.benchmarks.in_process.clocks import Clocks  # noqa: E402
from scripts.benchmarks.report import Row, median  # noqa: E402
from shared.messages import Sampling  # noqa: E402
from worker.engine.cache.slots import SlotCache  # noqa: E402
from worker.engine.model.config import SamplingDefaults  # noqa: E402
from worker.engine.sampling.penalties import Penalties, Said  # noqa: E402
from worker.engine.sampling.sampling import Rules, narrowed, rules_for  # noqa: E402

ROWS, LAYERS, HEADS, WIDTH = 32, 4, 4, 128
NEWCOMER_TOKENS = 500
OTHERS_TOKENS = (500, 2000)
VOCABULARY = 152_000


@dataclass(frozen=True)
class Cost:
    clocks: Clocks
    peak_bytes: int


def measured(work: Callable[[], None]) -> Cost:
    """Time, and bytes that were wanted beyond those in use before."""
    mx.clear_cache()
    before = mx.get_active_memory()
    mx.reset_peak_memory()
    started = Clocks.now()
    work()
    return Cost(Clocks.now() - started, max(0, int(mx.get_peak_memory() - before)))


def joins_and_leaves(rounds: int) -> list[Row]:
    """Keys and values of rows of various lengths, then counts of penalized rows."""
    rows = [_store_row(tokens, rounds) for tokens in OTHERS_TOKENS]
    return [*rows, _penalties_row(rounds)]


def narrowings(rounds: int) -> Row:
    """What top_p costs a step of as many rows: searched for its bound, and sorted as before."""
    rules = [rules_for(Sampling(seed=1, top_p=0.9), SamplingDefaults(), 0)] * ROWS
    logits = 3 * mx.random.normal((ROWS, VOCABULARY))
    mx.eval(logits)
    pairs = []
    for number in range(rounds + 1):  # the first warms up
        took = [
            measured(partial(_narrow, logits, rules, sorts=sorts)).clocks for sorts in (False, True)
        ]
        pairs += [took] if number else []
    return {
        "case": f"top_p 0.9 of {ROWS} rows, vocabulary {VOCABULARY:,}",
        "searched_cpu_ms": median(searched.cpu_s * 1e3 for searched, _ in pairs),
        "sorted_cpu_ms": median(sorted_.cpu_s * 1e3 for _, sorted_ in pairs),
        "cpu_ratio": median(sorted_.cpu_s / searched.cpu_s for searched, sorted_ in pairs),
    }


def _narrow(logits: mx.array, rules: list[Rules], *, sorts: bool) -> None:
    mx.eval(narrowed(logits, rules, sorts=sorts))


def _store_row(tokens: int, rounds: int) -> Row:
    cache = SlotCache(LAYERS)
    for _ in range(ROWS):
        cache.join(_row_cache(tokens), [tokens], is_batch=False)
    _step(cache)
    left, joined = [], []
    for number in range(rounds):
        keep = [row for row in range(ROWS) if row != number % ROWS]
        left.append(measured(partial(_leave, cache, keep)))
        joined.append(measured(partial(_join, cache, _row_cache(NEWCOMER_TOKENS))))
    case = f"{NEWCOMER_TOKENS} tokens join {ROWS} rows of {tokens}, {LAYERS} layers, and a step"
    return _row(case, joined, left)


def _penalties_row(rounds: int) -> Row:
    rule = rules_for(Sampling(seed=1, repetition_penalty=1.05), SamplingDefaults(), 0)
    said = Said(list(range(0, 3000, 2)), list(range(200)))
    table = Penalties(VOCABULARY)
    table.join([rule] * ROWS, [said] * ROWS)
    logits, tokens = mx.zeros((ROWS, VOCABULARY)), mx.zeros((ROWS,), mx.int32)
    mx.eval(table.apply(logits, tokens, [False] * ROWS))
    left, joined = [], []
    for number in range(rounds):
        keep = [row for row in range(ROWS) if row != number % ROWS]
        left.append(measured(partial(table.leave, keep)))
        joined.append(measured(partial(table.join, [rule], [said])))
        mx.eval(table.apply(logits, tokens, [False] * ROWS))
    return _row(f"a penalized row among {ROWS}, vocabulary {VOCABULARY:,}", joined, left)


def _row(case: str, joined: list[Cost], left: list[Cost]) -> Row:
    return {
        "case": case,
        "join_mib": median(cost.peak_bytes / 2**20 for cost in joined),
        "leave_mib": median(cost.peak_bytes / 2**20 for cost in left),
        "join_cpu_ms": median(cost.clocks.cpu_s * 1e3 for cost in joined),
        "leave_cpu_ms": median(cost.clocks.cpu_s * 1e3 for cost in left),
    }


def _row_cache(tokens: int) -> list[kv.KVCache]:
    layers = []
    for _ in range(LAYERS):
        layer = kv.KVCache()
        new = mx.zeros((1, HEADS, tokens, WIDTH))
        layer.update_and_fetch(new, new)
        mx.eval(layer.keys, layer.values)
        layers.append(layer)
    return layers


def _join(cache: SlotCache, row: list[kv.KVCache]) -> None:
    cache.join(row, [NEWCOMER_TOKENS], is_batch=False)
    _step(cache)


def _leave(cache: SlotCache, keep: list[int]) -> None:
    cache.leave(keep)
    _step(cache)


def _step(cache: SlotCache) -> None:
    """Write a token of each row, and read none: attention is not what is asked about."""
    new = mx.ones((cache.span, HEADS, 1, WIDTH))
    for layer in cache.layers:
        layer.update_and_fetch(new, new)
    mx.eval([(layer.keys, layer.values) for layer in cache.layers])
    cache.advance()

"""Rows in slots against rows that keep their keys and values to themselves."""

from __future__ import annotations

import gc
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mlx_vlm.models import cache as kv
from mlx_vlm.models.base import scaled_dot_product_attention

from tests.properties import examples
from worker.engine.cache import slot_table, slots
from worker.engine.cache.kv import merged
from worker.engine.cache.slots import SlotCache

HEADS, WIDTH, LAYERS, MOST_ROWS = 2, 4, 2, 12

Arrays = Any


class Twins:
    """The same rows twice: in slots, and each with NumPy arrays of its own."""

    def __init__(self, seed: int) -> None:
        self.cache = SlotCache(LAYERS)
        self.rows: list[list[tuple[Arrays, Arrays]]] = []
        self._chance = np.random.default_rng(seed)

    def random(self, *shape: int) -> Arrays:
        return self._chance.standard_normal(shape).astype(np.float32)

    def new_row(self, length: int) -> list[tuple[Arrays, Arrays]]:
        shape = (HEADS, length, WIDTH)
        return [(self.random(*shape), self.random(*shape)) for _ in range(LAYERS)]

    def join(self, lengths: list[int], *, together: bool) -> None:
        rows = [self.new_row(length) for length in lengths]
        caches = [_as_cache(row) for row in rows]
        if together and max(lengths):
            self.cache.join(merged(caches), lengths, is_batch=True)
        else:
            for cache, length in zip(caches, lengths, strict=True):
                self.cache.join(cache, [length], is_batch=False)
        self.rows += rows

    def leave(self, numbers: set[int]) -> None:
        keep = [number for number in range(len(self.rows)) if number not in numbers]
        self.cache.leave(keep)
        self.rows = [self.rows[number] for number in keep]

    def step(
        self, tokens: int, taken_back: list[int], window: int | None, *, later: bool = False
    ) -> None:
        """Every row attends over so many new tokens; some are not kept, or taken back later."""
        rows = len(self.rows)
        before = [row[0][0].shape[1] for row in self.rows]
        for number, layer in enumerate(self.cache.layers):
            queries, keys, values = (self.random(rows, HEADS, tokens, WIDTH) for _ in range(3))
            assert _offsets(self.cache, layer.offset) == before
            mask = layer.make_mask(tokens, window_size=window)
            mine = [self.cache.spread(mx.array(each)) for each in (queries, keys, values)]
            all_keys, all_values = layer.update_and_fetch(*mine[1:])
            found = scaled_dot_product_attention(mine[0], all_keys, all_values, layer, 1.0, mask)
            found = np.array(self.cache.gathered(found))
            for place, row in enumerate(self.rows):
                known_keys, known_values = row[number]
                row[number] = (
                    np.concatenate([known_keys, keys[place]], axis=1),
                    np.concatenate([known_values, values[place]], axis=1),
                )
                expected = _attention(queries[place], *row[number], window)
                np.testing.assert_allclose(found[place], expected, atol=1e-5)
        kept = [max(1, tokens - count) for count in taken_back[:rows]]
        if later:
            self.cache.advance([tokens] * rows)
            for place, count in enumerate(kept):
                self.cache.trim(place, tokens - count)
        else:
            self.cache.advance(kept)
        for place, row in enumerate(self.rows):
            end = before[place] + kept[place]
            row[:] = [(keys[:, :end], values[:, :end]) for keys, values in row]

    def check_parts(self, number: int, cut: int) -> None:
        length = self.rows[number][0][0].shape[1]
        spans = [(0, min(cut, length)), (min(cut, length), length)]
        for (begin, stop), part in zip(spans, self.cache.parts(number, spans), strict=True):
            for layer, (keys, values) in zip(part, self.rows[number], strict=True):
                assert layer.offset == stop - begin
                if layer.offset:
                    np.testing.assert_array_equal(np.array(layer.keys[0]), keys[:, begin:stop])
                    np.testing.assert_array_equal(np.array(layer.values[0]), values[:, begin:stop])


def _as_cache(row: list[tuple[Arrays, Arrays]]) -> list[kv.KVCache]:
    layers = []
    for keys, values in row:
        layer = kv.KVCache()
        if keys.shape[1]:
            layer.update_and_fetch(mx.array(keys[None]), mx.array(values[None]))
        layers.append(layer)
    return layers


def _offsets(cache: SlotCache, offset: Any) -> list[int]:
    if isinstance(offset, int):
        return [offset]
    return [offset.tolist()[slot] for slot in cache.table.slots]


def _attention(queries: Arrays, keys: Arrays, values: Arrays, window: int | None) -> Arrays:
    """Of the last tokens of a row over all of it, causal."""
    tokens, length = queries.shape[1], keys.shape[1]
    mine = np.arange(length - tokens, length)[:, None]
    theirs = np.arange(length)[None]
    seen = theirs <= mine
    if window is not None:
        seen &= mine < theirs + window
    scores = np.where(seen, queries @ keys.transpose(0, 2, 1), -np.inf)
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    return (weights / weights.sum(-1, keepdims=True)) @ values


@settings(max_examples=examples(40), deadline=None)
@given(data=st.data(), seed=st.integers(0, 1000), window=st.sampled_from([None, None, 5]))
def test_any_order_of_coming_and_going_changes_nobodys_attention(
    data: st.DataObject, seed: int, window: int | None
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(slots, "BLOCK_TOKENS", 8)
        patch.setattr(slots, "BLOCK_SLOTS", 4)
        patch.setattr(slot_table, "VIEW_TOKENS", 4)
        patch.setattr(slots, "FILL_AFTER_STEPS", 2)
        twins = Twins(seed)
        for _ in range(data.draw(st.integers(1, 12))):
            if len(twins.rows) < MOST_ROWS and (not twins.rows or data.draw(st.booleans())):
                lengths = data.draw(st.lists(st.integers(0, 30), min_size=1, max_size=4))
                twins.join(lengths, together=data.draw(st.booleans()))
            for _ in range(data.draw(st.integers(1, 5))):
                tokens = data.draw(st.sampled_from([1, 1, 3]))
                back = data.draw(st.lists(st.integers(0, 2), min_size=16, max_size=16))
                twins.step(tokens, back, window, later=data.draw(st.booleans()))
            number = data.draw(st.integers(0, len(twins.rows) - 1))
            twins.check_parts(number, data.draw(st.integers(0, 8)))
            twins.leave(data.draw(st.sets(st.integers(0, len(twins.rows) - 1))))


def full(rows: int, length: int, width: int = 64) -> SlotCache:
    cache = SlotCache(1)
    for _ in range(rows):
        cache.join([_long_layer(length, width)], [length], is_batch=False)
    advance(cache)
    return cache


def _long_layer(length: int, width: int = 64) -> kv.KVCache:
    layer = kv.KVCache()
    new = mx.zeros((1, HEADS, length, width))
    layer.update_and_fetch(new, new)
    mx.eval(layer.keys, layer.values)
    return layer


def advance(cache: SlotCache) -> None:
    new = mx.ones((cache.span, HEADS, 1, 64))
    mx.eval(cache.layers[0].update_and_fetch(new, new))
    cache.advance()


def peak_beyond(work: Any) -> int:
    """Bytes that are wanted at once, beyond those in use before."""
    mx.clear_cache()
    before = mx.get_active_memory()
    mx.reset_peak_memory()
    work()
    return int(mx.get_peak_memory() - before)


def test_who_joins_or_leaves_has_nobody_copied() -> None:
    cache = full(16, 2000)
    row_bytes = cache.layers[0].nbytes // 16
    advance(cache)
    store = cache.layers[0].keys

    def churn() -> None:
        cache.leave([number for number in range(16) if number != 5])
        cache.join([_long_layer(100)], [100], is_batch=False)
        advance(cache)

    del store
    assert peak_beyond(churn) < row_bytes
    assert cache.span == 16


def test_a_free_slot_is_filled_when_nobody_comes() -> None:
    cache = full(8, 300)
    cache.leave([0, 1, 2, 4, 5, 6, 7])
    for _ in range(slots.FILL_AFTER_STEPS + 1):
        advance(cache)
    assert cache.span == 7
    assert sorted(cache.table.slots) == list(range(7))


def test_room_for_many_is_given_back_when_few_are_left() -> None:
    cache = full(16, 2000)
    before = cache.layers[0].nbytes
    cache.leave([0])
    advance(cache)
    assert cache.layers[0].nbytes < before / 8
    cache.leave([])
    assert cache.layers[0].nbytes == 0


def test_a_batch_that_is_let_go_holds_nothing() -> None:
    """Not until Python looks for circles: it may not do so for minutes."""
    mx.clear_cache()
    before = mx.get_active_memory()
    cache = full(4, 2000)
    assert mx.get_active_memory() > before
    gc.disable()
    try:
        del cache
        assert mx.get_active_memory() == before
    finally:
        gc.enable()

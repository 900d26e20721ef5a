"""What a row takes, against what its cache really holds."""

from __future__ import annotations

import mlx.core as mx
import pytest
from mlx_vlm.models import cache as kv

from worker.engine.cache.footprint import Footprint

HEADS, WIDTH = 2, 8
TOKEN_BYTES = 2 * HEADS * WIDTH * 4


def fill(layer: kv.KVCache | kv.RotatingKVCache, tokens: int) -> None:
    for _ in range(tokens):
        new = mx.zeros((1, HEADS, 1, WIDTH))
        layer.update_and_fetch(new, new)


def test_plain_layers_grow_with_each_token() -> None:
    layers = [kv.KVCache(), kv.KVCache()]
    for layer in layers:
        fill(layer, 8)
    assert Footprint.measured(layers, 8).row_bytes(5000) == 2 * 5000 * TOKEN_BYTES


@pytest.mark.parametrize("window", [16, 512])
def test_a_sliding_window_grows_up_to_its_size(window: int) -> None:
    layer = kv.RotatingKVCache(max_size=window)
    fill(layer, 8)
    measured = Footprint.measured([layer], 8)
    fill(layer, 1000)
    assert measured.row_bytes(1008) == layer.nbytes
    assert measured.row_bytes(10) == 10 * TOKEN_BYTES


def test_a_recurrent_state_is_as_large_as_it_is_whatever_the_length() -> None:
    state = kv.ArraysCache(2)
    state[0], state[1] = mx.zeros((1, 4, 64)), mx.zeros((1, 32, 32))
    plain = kv.KVCache()
    fill(plain, 8)
    measured = Footprint.measured([kv.CacheList(state, plain)], 8)
    assert measured.row_bytes(10) == state.nbytes + 10 * TOKEN_BYTES
    assert measured.row_bytes(1000) == state.nbytes + 1000 * TOKEN_BYTES

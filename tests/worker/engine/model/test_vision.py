"""The stand-in for a vision tower, called as models of several families call theirs."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest

from worker.engine.cache.vision import VisionCache
from worker.engine.model.family import Split
from worker.engine.model.streams import Streams
from worker.engine.model.vision_calls import Item, taken_apart
from worker.engine.model.vision_tower import CachedVisionTower, MoreToEncode

WIDTH = 6


class Tower(nn.Module):  # type: ignore[misc]
    """[images, width] to features of the same shape, through two layers."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = [nn.Linear(WIDTH, WIDTH) for _ in range(2)]

    def __call__(self, pixels: mx.array) -> mx.array:
        for layer in self.layers:
            pixels = layer(pixels)
        return pixels


def images(count: int) -> mx.array:
    """[images, width, 1, 1], as pixels are known by their four axes."""
    return mx.array(np.random.default_rng(count).normal(size=(count, WIDTH, 1, 1)))


class Flat(nn.Module):  # type: ignore[misc]
    def __init__(self) -> None:
        super().__init__()
        self.tower = Tower()

    def __call__(self, pixels: mx.array) -> mx.array:
        return self.tower(pixels.reshape(pixels.shape[0], WIDTH).astype(mx.float32))


class Model(nn.Module):  # type: ignore[misc]
    def __init__(self) -> None:
        super().__init__()
        self.tower = Flat()


def by_name(tower: Callable[..., mx.array], pixels: mx.array) -> list[mx.array]:
    return [tower(pixels=pixels)]


def at_once(tower: Callable[[mx.array], mx.array], pixels: mx.array) -> list[mx.array]:
    return [tower(pixels)]


def one_by_one(tower: Callable[[mx.array], mx.array], pixels: mx.array) -> list[mx.array]:
    return [tower(pixels[i : i + 1]) for i in range(pixels.shape[0])]


def whole_and_tiles(tower: Callable[[mx.array], mx.array], pixels: mx.array) -> list[mx.array]:
    return [
        part
        for i in range(pixels.shape[0])
        for part in (tower(pixels[i : i + 1]), tower(mx.concatenate([pixels[i : i + 1]] * 2)))
    ]


Calling = Callable[[Callable[[mx.array], mx.array], mx.array], Sequence[mx.array]]


@pytest.mark.parametrize("calling", [at_once, by_name, one_by_one, whole_and_tiles])
@pytest.mark.parametrize("limit_bytes", [0, 1 << 20])
@pytest.mark.parametrize("seconds", [0.0, math.inf])
@pytest.mark.parametrize("split", [Split.NOT, Split.BY_ROW])
def test_every_image_gets_its_own_features(
    calling: Calling, limit_bytes: int, seconds: float, split: Split
) -> None:
    network, pixels = Model(), images(3)
    expected = [np.array(part) for part in calling(network.tower, pixels)]
    tower = CachedVisionTower(network, "tower", split, VisionCache(limit_bytes), Streams(2))
    asker = ("red", "green", "blue")
    for _ in range(2):  # the second time they are remembered, if there is room
        found: Sequence[mx.array] = ()
        while not found:
            try:
                with tower.standing_in(asker):
                    found = calling(network.tower, pixels)
            except MoreToEncode:
                tower.advance(asker, deadline=seconds)
        tower.end(asker)
        assert isinstance(network.tower, Flat)
        for part, wanted in zip(found, expected, strict=True):
            assert np.allclose(np.array(part), wanted, atol=1e-5)


class SlowStreams(Streams):
    """Whatever is computed takes four seconds of a clock of its own."""

    now_s = 0.0

    def compute(self, pieces: Sequence[Any]) -> None:
        super().compute(pieces)
        self.now_s += 4.0


def test_no_layer_is_begun_that_the_time_does_not_allow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each takes four seconds, and there are ten."""
    network, streams = Model(), SlowStreams(1)
    monkeypatch.setattr(time, "perf_counter", lambda: streams.now_s)
    tower = CachedVisionTower(network, "tower", Split.NOT, VisionCache(0), streams)
    with pytest.raises(MoreToEncode), tower.standing_in(("a",)):
        network.tower(images(1))
    tower.advance(("a",), deadline=10.0)
    assert streams.now_s == 8.0


def test_a_tile_is_nobody_elses_picture() -> None:
    """A model that calls its tower for the two tiles of each picture: there are as many tiles in
    a call as pictures in the prompt, which says nothing about whose they are."""
    network = Model()
    tower = CachedVisionTower(network, "tower", Split.NOT, VisionCache(1 << 20), Streams(1))

    def features(asker: tuple[str, ...], *calls: mx.array) -> list[mx.array]:
        while True:
            try:
                with tower.standing_in(asker):
                    found = [network.tower(pixels) for pixels in calls]
            except MoreToEncode:
                tower.advance(asker, deadline=math.inf)
            else:
                tower.end(asker)
                return found

    tiles = images(4)
    features(("a", "b"), tiles[:2], tiles[2:])
    (alone,) = features(("b",), tiles[2:3])
    assert mx.allclose(alone, network.tower(tiles[2:3]), atol=1e-5)


def test_what_a_grid_counts_is_taken_apart_by_it() -> None:
    grid = mx.array([[1, 1, 2], [1, 1, 1]])
    call = Item((mx.arange(3)[:, None], grid), {"whole": True})
    first, second = taken_apart(call, Split.BY_GRID)
    assert [item.args[0].shape[0] for item in (first, second)] == [2, 1]
    assert mx.array_equal(second.args[1], grid[1:]) and second.kwargs == {"whole": True}
    assert taken_apart(call, Split.NOT) == [call]
    assert taken_apart(Item((mx.arange(4)[:, None], grid), {}), Split.BY_GRID)[0].args[1] is grid

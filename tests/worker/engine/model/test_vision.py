"""The stand-in for a vision tower, called as models of several families call theirs."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest

from worker.engine.cache.vision import VisionCache
from worker.engine.model.streams import Streams
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


@pytest.mark.parametrize("calling", [at_once, one_by_one, whole_and_tiles])
@pytest.mark.parametrize("limit_bytes", [0, 1 << 20])
@pytest.mark.parametrize("seconds", [0.0, math.inf])
def test_every_image_gets_its_own_features(
    calling: Calling, limit_bytes: int, seconds: float
) -> None:
    network, pixels = Flat(), images(3)
    expected = [np.array(part) for part in calling(network, pixels)]
    tower = CachedVisionTower(network, VisionCache(limit_bytes), Streams(2))
    asker = ("red", "green", "blue")
    for _ in range(2):  # the second time they are remembered, if there is room
        found: Sequence[mx.array] = ()
        while not found:
            tower.begin(asker)
            try:
                found = calling(tower, pixels)
            except MoreToEncode:
                tower.advance(asker, deadline=seconds)
        tower.end(asker)
        for part, wanted in zip(found, expected, strict=True):
            assert np.allclose(np.array(part), wanted, atol=1e-5)

"""Image features are computed once per image and remembered.

A stand-in takes the place of the model's vision tower, so that every family profits, whatever it
does with the features afterwards (mlx-vlm's own `cached_image_features` loses the deep features
of Qwen3-VL). One image at a time goes through the tower, which bounds how long running streams
wait for a newcomer's pictures.
"""

from __future__ import annotations

import functools
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import mlx.core as mx
import mlx.nn as nn
from mlx.utils import tree_flatten, tree_map

from worker.engine.arrays import to_host

Features = Any
"""An array, or nested lists and tuples of arrays and None, each with items along axis 0."""


class MoreToEncode(Exception):
    """The call's budget of images is spent; call again to go on."""


class FeatureMemory:
    """Features by key, least recently used forgotten first.

    Args:
        limit_bytes: most memory to keep between requests; 0 remembers nothing.
    """

    def __init__(self, limit_bytes: int) -> None:
        self.limit_bytes = limit_bytes
        self.bytes = 0
        self.hits = 0
        self.misses = 0
        self._kept: OrderedDict[tuple[object, ...], Features] = OrderedDict()

    def get(self, key: tuple[object, ...]) -> Features | None:
        features = self._kept.get(key)
        if features is not None:
            self._kept.move_to_end(key)
        return features

    def put(self, key: tuple[object, ...], features: Features) -> None:
        size = size_bytes(features)
        if key in self._kept or size > self.limit_bytes:
            return
        self._kept[key] = features
        self.bytes += size
        while self.bytes > self.limit_bytes:
            _, oldest = self._kept.popitem(last=False)
            self.bytes -= size_bytes(oldest)

    def clear(self) -> None:
        """Forget everything, what was counted too."""
        self._kept.clear()
        self.bytes = self.hits = self.misses = 0


@dataclass(frozen=True)
class Item:
    """What the tower is called with for one image."""

    pixels: mx.array
    args: tuple[Any, ...]
    kwargs: dict[str, Any]


class RememberingTower:
    """Called like the tower it wraps; encodes what it does not remember, image by image.

    `begin` says whose images come next. Features of the request at hand are held until the next
    request's, whatever the memory's limit, so that a request of many images gets done.
    """

    def __init__(self, tower: nn.Module, memory: FeatureMemory) -> None:
        self._tower = tower
        self._memory = memory
        self._keys: tuple[str, ...] = ()
        self._budget = 0
        self._at_hand: dict[tuple[object, ...], Features] = {}
        self._splits = True
        self.seconds = 0.0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._tower, name)

    def begin(self, image_keys: tuple[str, ...], budget: int) -> None:
        if image_keys != self._keys:
            self._at_hand.clear()
            self._keys = image_keys
            self.seconds = 0.0
        self._budget = budget

    def __call__(self, pixels: Any, *args: Any, **kwargs: Any) -> Features:
        items = _split(pixels, args, kwargs) if self._splits else None
        if items is None:
            return self._remembered(
                (self._keys, "whole"), lambda: self._tower(pixels, *args, **kwargs)
            )
        per_image = len(items) == len(self._keys)
        parts: list[Features] = []
        for index, item in enumerate(items):
            owner = self._keys[index] if per_image else (self._keys, index)
            key = (owner, tuple(item.pixels.shape))
            parts.append(self._remembered(key, functools.partial(self._encode, item)))
        if len(parts) == 1:
            return parts[0]
        return tree_map(lambda *leaves: _joined(leaves), parts[0], *parts[1:])

    def _encode(self, item: Item) -> Features:
        return self._tower(item.pixels, *item.args, **item.kwargs)

    def _remembered(self, key: tuple[object, ...], encode: Callable[[], Features]) -> Features:
        features = self._at_hand.get(key)
        if features is not None:
            return features
        features = self._memory.get(key)
        if features is None:
            if self._budget <= 0:
                raise MoreToEncode
            self._budget -= 1
            self._memory.misses += 1
            features = encode()
            mx.eval([leaf for _, leaf in tree_flatten(features) if isinstance(leaf, mx.array)])
            self._memory.put(key, features)
        else:
            self._memory.hits += 1
        self._at_hand[key] = features
        return features


def _split(pixels: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[Item] | None:
    """Cut a tower's inputs into one set per image; None where it is not known how."""
    if not isinstance(pixels, mx.array):
        return None
    grid = _grid(args, kwargs)
    if grid is not None:
        return _split_by_grid(pixels, grid, args, kwargs)
    if pixels.ndim == 4:
        return _split_by_row(pixels, args, kwargs)
    return None


def _grid(args: tuple[Any, ...], kwargs: dict[str, Any]) -> mx.array | None:
    """The [images, 3] array of patch counts (frames, height, width), if there is one."""
    for value in (*args, *kwargs.values()):
        if isinstance(value, mx.array) and value.ndim == 2 and value.shape[1] == 3:
            return value
    return None


def _split_by_grid(
    pixels: mx.array, grid: mx.array, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> list[Item] | None:
    """Patches [all patches, width] of several images: attention stays within each image."""
    counts = [int(t * h * w) for t, h, w in to_host(grid)]
    if sum(counts) != pixels.shape[0]:
        return None
    items: list[Item] = []
    start = 0
    for index, count in enumerate(counts):
        row = grid[index : index + 1]
        its_args = tuple(row if value is grid else value for value in args)
        its_kwargs = {name: row if value is grid else value for name, value in kwargs.items()}
        items.append(Item(pixels[start : start + count], its_args, its_kwargs))
        start += count
    return items


def _split_by_row(
    pixels: mx.array, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> list[Item] | None:
    """Whole pictures [images, ...]: other inputs with that first axis are cut with them."""
    count = pixels.shape[0]

    def cut(value: Any, index: int) -> Any:
        is_row = isinstance(value, mx.array) and value.ndim > 0 and value.shape[0] == count
        return value[index : index + 1] if is_row else value

    return [
        Item(
            pixels[index : index + 1],
            tuple(cut(value, index) for value in args),
            {name: cut(value, index) for name, value in kwargs.items()},
        )
        for index in range(count)
    ]


def _joined(leaves: tuple[Any, ...]) -> Any:
    if isinstance(leaves[0], mx.array):
        return mx.concatenate(list(leaves), axis=0)
    return leaves[0]


def size_bytes(features: Features) -> int:
    return sum(leaf.nbytes for _, leaf in tree_flatten(features) if isinstance(leaf, mx.array))

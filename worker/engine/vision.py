"""Image features are computed once per image and remembered.

A stand-in takes the place of the model's vision tower, so that every family profits, whatever it
does with the features afterwards (mlx-vlm's own `cached_image_features` loses the deep features
of Qwen3-VL).

Running streams must not wait for the whole of a newcomer's pictures. MLX is lazy: calling the
tower only describes the work. The stand-in notes what each of the tower's layers will yield and
has these computed one after the other, a few between two decode steps.
"""

from __future__ import annotations

import math
import time
from collections import OrderedDict, deque
from dataclasses import dataclass
from typing import Any

import mlx.core as mx
import mlx.nn as nn
from mlx.utils import tree_flatten, tree_map

from worker.engine.arrays import to_host

Features = Any
"""An array, or nested lists and tuples of arrays and None, each with items along axis 0."""


class MoreToEncode(Exception):
    """The call's time is spent; call again to go on."""


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

    pixels: Any
    args: tuple[Any, ...]
    kwargs: dict[str, Any]


class NotedLayer:
    """Stands in for a layer of the tower; notes what it yields, to be computed in its turn."""

    def __init__(self, layer: nn.Module, notes: list[Any]) -> None:
        self._layer = layer
        self._notes = notes

    def __getattr__(self, name: str) -> Any:
        return getattr(self._layer, name)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        result = self._layer(*args, **kwargs)
        self._notes.append(result)
        return result


@dataclass
class Underway:
    """An image on its way through the tower: what is left to compute, in order."""

    features: Features
    layers: deque[Any]


class RememberingTower:
    """Called like the tower it wraps; encodes what it does not remember, image by image.

    `begin` says whose images come next and how long they may take, `end` that they are done.
    In between, features are held whatever the memory's limit, so that many images get done.
    """

    def __init__(self, tower: nn.Module, memory: FeatureMemory) -> None:
        self._tower = tower
        self._memory = memory
        self._keys: tuple[str, ...] = ()
        self._deadline = 0.0
        self._encoding = False
        self._at_hand: dict[tuple[object, ...], Features] = {}
        self._underway: dict[tuple[object, ...], Underway] = {}
        self._notes: list[Any] = []
        _note_layers(tower, self._notes)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._tower, name)

    def begin(self, image_keys: tuple[str, ...], seconds: float) -> None:
        if image_keys != self._keys:
            self.end()
            self._keys = image_keys
        self._deadline = time.perf_counter() + seconds
        self._encoding = False

    def end(self) -> None:
        self._keys = ()
        self._at_hand.clear()
        self._underway.clear()

    def __call__(self, pixels: Any, *args: Any, **kwargs: Any) -> Features:
        items = _split(pixels, args, kwargs)
        if items is None:
            whole = Item(pixels, args, kwargs)
            return self._remembered((self._keys, "whole"), whole)
        per_image = len(items) == len(self._keys)
        parts: list[Features] = []
        for index, item in enumerate(items):
            owner = self._keys[index] if per_image else (self._keys, index)
            parts.append(self._remembered((owner, tuple(item.pixels.shape)), item))
        if self._encoding and time.perf_counter() >= self._deadline:
            raise MoreToEncode  # what comes after the images can wait for the next call
        if len(parts) == 1:
            return parts[0]
        return tree_map(lambda *leaves: _joined(leaves), parts[0], *parts[1:])

    def _remembered(self, key: tuple[object, ...], item: Item) -> Features:
        features = self._at_hand.get(key)
        if features is not None:
            return features
        features = self._memory.get(key)
        if features is None:
            features = self._encoded(key, item)
            self._memory.misses += 1
            self._memory.put(key, features)
        else:
            self._memory.hits += 1
        self._at_hand[key] = features
        return features

    def _encoded(self, key: tuple[object, ...], item: Item) -> Features:
        """Go on with an image, at least by a layer, until it is done or time is up."""
        self._encoding = True
        underway = self._underway.get(key)
        if underway is None:
            self._notes.clear()
            features = self._tower(item.pixels, *item.args, **item.kwargs)
            underway = self._underway[key] = Underway(features, deque(self._notes))
            self._notes.clear()
        if self._deadline < math.inf:
            self._advance(underway.layers)
        _compute(underway.features)
        del self._underway[key]
        return underway.features

    def _advance(self, layers: deque[Any]) -> None:
        """Compute layers, as many at once as the time seems to allow, until they are all done.

        Waiting for the device after every layer would cost more than a small layer itself.
        """
        together = 1
        while layers:
            started = time.perf_counter()
            for _ in range(min(together, len(layers)) - 1):
                layers.popleft()  # those after it cannot be computed without it
            _compute(layers.popleft())
            now = time.perf_counter()
            if now >= self._deadline:
                raise MoreToEncode
            each_s = (now - started) / together
            together = max(1, int((self._deadline - now) / max(each_s, 1e-6)))


def _note_layers(module: nn.Module, notes: list[Any]) -> None:
    """Put stand-ins into every list of equal layers within the tower."""
    # Not `children()`: its lists are copies.
    for child in module.values():
        if isinstance(child, nn.Module):
            _note_layers(child, notes)
        elif isinstance(child, list) and _are_layers(child):
            child[:] = [NotedLayer(layer, notes) for layer in child]


def _are_layers(items: list[Any]) -> bool:
    return len({type(item) for item in items}) == 1 and isinstance(items[0], nn.Module)


def _compute(features: Features) -> None:
    mx.eval([leaf for _, leaf in tree_flatten(features) if isinstance(leaf, mx.array)])


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

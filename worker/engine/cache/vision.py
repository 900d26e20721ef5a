"""What vision towers made of images, kept from request to request within a bound of memory.

Of more images it is known what shapes their features have: where the prompt that held them is
remembered, that is enough.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

import mlx.core as mx
from mlx.utils import tree_flatten, tree_map

Features = Any
"""An array, or nested lists and tuples of arrays and None, each with items along axis 0."""
MOST_OUTLINES = 10_000
"""Of pictures; some hundred bytes each."""


@dataclass(frozen=True)
class Outline:
    """An array, but for its numbers."""

    shape: tuple[int, ...]
    dtype: mx.Dtype


class VisionCache:
    """Features by key, least recently used forgotten first.

    Args:
        limit_bytes: most memory to keep between requests; 0 remembers no features.
    """

    def __init__(self, limit_bytes: int) -> None:
        self.limit_bytes = limit_bytes
        self.bytes = 0
        self.hits = 0
        self.misses = 0
        self._kept: OrderedDict[tuple[object, ...], Features] = OrderedDict()
        self._outlines: OrderedDict[tuple[object, ...], Any] = OrderedDict()

    def get(self, key: tuple[object, ...]) -> Features | None:
        features = self._kept.get(key)
        if features is not None:
            self._kept.move_to_end(key)
        return features

    def blank(self, key: tuple[object, ...]) -> Features | None:
        """Features of the same shapes, of which no number is one: whatever is made of them is none
        either. None where their shapes are not known."""
        outline = self._outlines.get(key)
        if outline is None:
            return None
        self._outlines.move_to_end(key)
        return tree_map(_blank, outline)

    def put(self, key: tuple[object, ...], features: Features) -> None:
        self._outline(key, features)
        size = size_bytes(features)
        if key in self._kept or size > self.limit_bytes:
            return
        self._kept[key] = features
        self.bytes += size
        self._shrink(self.limit_bytes)

    def give_back(self, wanted_bytes: int) -> None:
        """Forget what was of no use for longest, at least so much."""
        self._shrink(max(0, self.bytes - wanted_bytes))

    def gauges(self) -> dict[str, float]:
        return {
            "vision_cache_hits": float(self.hits),
            "vision_cache_misses": float(self.misses),
            "vision_cache_bytes": float(self.bytes),
        }

    def _shrink(self, limit_bytes: int) -> None:
        while self.bytes > limit_bytes:
            _, oldest = self._kept.popitem(last=False)
            self.bytes -= size_bytes(oldest)

    def _outline(self, key: tuple[object, ...], features: Features) -> None:
        leaves = [leaf for _, leaf in tree_flatten(features) if isinstance(leaf, mx.array)]
        if all(mx.issubdtype(leaf.dtype, mx.floating) for leaf in leaves):
            self._outlines[key] = tree_map(_outlined, features)
            if len(self._outlines) > MOST_OUTLINES:
                self._outlines.popitem(last=False)

    def clear(self) -> None:
        """Forget everything, what was counted too."""
        self._kept.clear()
        self._outlines.clear()
        self.bytes = self.hits = self.misses = 0


def size_bytes(features: Features) -> int:
    return sum(leaf.nbytes for _, leaf in tree_flatten(features) if isinstance(leaf, mx.array))


def _outlined(leaf: Any) -> Any:
    return Outline(leaf.shape, leaf.dtype) if isinstance(leaf, mx.array) else leaf


def _blank(leaf: Any) -> Any:
    return mx.full(leaf.shape, math.nan, leaf.dtype) if isinstance(leaf, Outline) else leaf

"""What vision towers made of images, kept from request to request within a bound of memory."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

import mlx.core as mx
from mlx.utils import tree_flatten

Features = Any
"""An array, or nested lists and tuples of arrays and None, each with items along axis 0."""


class VisionCache:
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
        self._shrink(self.limit_bytes)

    def give_back(self, wanted_bytes: int) -> None:
        """Forget what was of no use for longest, at least so much."""
        self._shrink(max(0, self.bytes - wanted_bytes))

    def _shrink(self, limit_bytes: int) -> None:
        while self.bytes > limit_bytes:
            _, oldest = self._kept.popitem(last=False)
            self.bytes -= size_bytes(oldest)

    def clear(self) -> None:
        """Forget everything, what was counted too."""
        self._kept.clear()
        self.bytes = self.hits = self.misses = 0


def size_bytes(features: Features) -> int:
    return sum(leaf.nbytes for _, leaf in tree_flatten(features) if isinstance(leaf, mx.array))

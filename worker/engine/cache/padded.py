"""Rows that decode together in mlx-vlm's own caches: sliding windows, states, and the like.

A batch is one block that is padded at the left, so that whoever joins or leaves has all of it
copied.
"""

from __future__ import annotations

from collections.abc import Sequence

import mlx.core as mx

from worker.engine.cache import kv as caches
from worker.engine.cache.arrays import start
from worker.engine.cache.kv import Cache, Spans


class PaddedCache:
    """To its owner as `SlotCache`; a row that is alone stays in its own cache."""

    def __init__(self) -> None:
        self.layers: Cache = []
        self._rows = 0
        self._is_batch = False

    def join(self, cache: Cache, lengths: Sequence[int], *, is_batch: bool) -> None:
        more = len(lengths)
        if not is_batch and (self._rows or more > 1):
            cache, is_batch = caches.merged([cache] * more), True
        if not self._rows:
            self.layers, self._is_batch = cache, is_batch
        else:
            if not self._is_batch:
                self.layers, self._is_batch = caches.merged([self.layers]), True
            caches.extend(self.layers, cache)
        self._rows += more

    def leave(self, keep: Sequence[int]) -> None:
        self._rows = len(keep)
        if keep:
            caches.keep_rows(self.layers, keep)
        else:
            self.layers = []

    def parts(self, number: int, spans: Spans) -> list[Cache]:
        """Copy spans of a row out, of which the last one ends with it; begun.

        Kinds that cannot be cut come as a whole, a single row's as they are: the batch is done with
        them then.
        """
        if self._is_batch:
            return caches.row_parts(self.layers, number, spans)
        if not caches.is_plain(self.layers):
            return [self.layers]
        made = caches.parts(self.layers, spans)
        start([caches.state(part) for part in made])
        return made

    def spread(self, rows: mx.array) -> mx.array:
        return rows

    def gathered(self, slots: mx.array) -> mx.array:
        return slots

    def advance(self) -> None:
        """The caches count for themselves."""

    def settle(self) -> list[mx.array]:
        """Each layer counts its positions in an array of its own, of which the model reads one
        layer's: the others would be sums of as many terms as there were steps."""
        return caches.held(self.layers)

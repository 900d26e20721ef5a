"""Streams that compute side by side: one a core on a CPU, one in all on a GPU.

On a CPU MLX computes a stream's operations one after the other in one thread, and of these only
matrix products use more cores. Two pictures on two streams take about as long as one.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import zip_longest
from typing import Any

import mlx.core as mx
from mlx.utils import tree_flatten

from worker.engine.model import blas
from worker.engine.model.device import has_gpu

MOST = 4
"""Each needs memory for what is on its way."""


class Streams:
    """Belongs to the thread that makes it, as all streams do."""

    def __init__(self, count: int) -> None:
        self._streams = [mx.default_stream(mx.default_device())]
        self._streams += [mx.new_stream(mx.cpu) for _ in range(count - 1)]

    @classmethod
    def of_this_machine(cls) -> Streams:
        return cls(1 if has_gpu() else min(MOST, blas.thread_count()))

    def __len__(self) -> int:
        return len(self._streams)

    def stream(self, number: int) -> mx.Stream:
        """The stream for the `number`th piece of work; they take turns."""
        return self._streams[number % len(self)]

    def compute(self, pieces: Sequence[Any]) -> None:
        """Compute arrays, in any nesting, and wait for them; raises what MLX raises.

        Pieces that were built on different streams are computed at the same time, with one
        thread for the matrix products of each.
        """
        arrays = _in_turns([_arrays(piece) for piece in pieces])
        if len(pieces) == 1:
            mx.eval(arrays)
            return
        before = blas.thread_count()
        blas.use_threads(1)
        try:
            mx.eval(arrays)
        finally:
            blas.use_threads(before)


def _arrays(piece: Any) -> list[mx.array]:
    return [leaf for _, leaf in tree_flatten(piece) if isinstance(leaf, mx.array)]


def _in_turns(lists: Sequence[list[mx.array]]) -> list[mx.array]:
    """The first of each, then the second of each, and so on: MLX starts operations in an order
    that follows from that of the arrays it is given, and a stream whose operations come last would
    have nothing to do until the others are through."""
    turns = zip_longest(*lists)
    return [array for turn in turns for array in turn if array is not None]

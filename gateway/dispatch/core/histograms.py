"""Histograms that cost next to nothing to observe.

`prometheus_client`'s own take a lock and walk the buckets from the first one on. Everything here
happens on one thread, and a bisection finds the bucket: 0.19 µs instead of 0.66 µs an observation
(measured on the development machine), of which a request makes eight.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from itertools import accumulate

STEP_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
"""Seconds, for what is a part of a request: a token, an image."""

WAIT_S = (*STEP_S, 30, 60, 120, 300, 600, 1800)
"""Seconds, for what may last as long as a deadline."""


class Histogram:
    """One time series of counts by bucket.

    Args:
        bounds: the buckets' upper bounds, ascending; a last one without bound is added.
    """

    __slots__ = ("_bounds", "_counts", "_sum")

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = tuple(bounds)
        self._counts = [0] * (len(self._bounds) + 1)
        self._sum = 0.0

    def observe(self, value: float) -> None:
        self._counts[bisect_left(self._bounds, value)] += 1
        self._sum += value

    def cumulative(self) -> tuple[list[tuple[str, float]], float]:
        """Return the buckets as Prometheus counts them (upper bound, how many up to it; the last
        bound is "+Inf") and the sum of all values."""
        bounds = [*(str(float(bound)) for bound in self._bounds), "+Inf"]
        return list(zip(bounds, accumulate(self._counts), strict=True)), self._sum

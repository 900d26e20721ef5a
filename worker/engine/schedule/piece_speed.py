"""How long a piece of a prompt will take, told from the pieces before it."""

from __future__ import annotations

import statistics
from collections import deque
from itertools import combinations


class PieceSpeed:
    """Seconds a token, as a straight line over its place: each token looks back at all before it.

    The line is that of Theil and Sen, which a slow piece among others does not move. Where the
    latest piece took longer than it says (the machine has got other work), that factor counts from
    the next piece on. Beyond the furthest place that was measured, the time may be in proportion
    to the place, which is the worst there is.
    """

    REMEMBERED = 15
    FEW_TOKENS, SHORT_S = 64, 0.1
    """What is smaller than both tells of a piece's fixed cost rather than of its tokens: it counts
    only where it was quicker than foreseen."""

    def __init__(self) -> None:
        self._pieces: deque[tuple[float, float]] = deque(maxlen=self.REMEMBERED)
        self._base_s = self._slope_s = 0.0
        self._factor = 1.0
        self._furthest = 0.0

    @property
    def known(self) -> bool:
        return bool(self._pieces)

    def note(self, tokens: int, seconds: float, middle: float) -> None:
        """Take note of a piece.

        Args:
            middle: how many tokens its middle one looked back at.
        """
        if not tokens:
            return
        small = tokens < self.FEW_TOKENS and seconds < self.SHORT_S
        if small and (not self.known or seconds / tokens >= self._token_s(middle)):
            return
        self._pieces.append((middle, seconds / tokens))
        slopes = [
            (each_s - other_s) / (place - other)
            for (place, each_s), (other, other_s) in combinations(self._pieces, 2)
            if place != other
        ]
        self._slope_s = max(0.0, statistics.median(slopes)) if slopes else 0.0
        bases = [each_s - self._slope_s * place for place, each_s in self._pieces]
        self._base_s = max(0.0, statistics.median(bases))
        self._furthest = max(place for place, _ in self._pieces)
        self._factor = max(1.0, seconds / tokens / max(1e-9, self._line(middle)))

    def tokens_within(self, seconds: float, start: int, most: int) -> int:
        """How many tokens from `start` on take no longer than that, `most` at most; 0 is possible.
        Only once it is `known`."""
        few, many = 0, most + 1
        while many - few > 1:
            tokens = (few + many) // 2
            if tokens * self._token_s(start + tokens / 2) <= seconds:
                few = tokens
            else:
                many = tokens
        return few

    def _token_s(self, place: float) -> float:
        known = min(place, self._furthest)
        beyond = place / known if known else 1.0
        return self._factor * self._line(known) * beyond

    def _line(self, place: float) -> float:
        return self._base_s + self._slope_s * place

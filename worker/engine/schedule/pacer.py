"""How much is prefilled between two decode steps."""

from __future__ import annotations

import statistics
from collections import deque


class Pacer:
    """Chooses how much to prefill between two decode steps.

    Streams should feel a newcomer as little as possible: prefilling may take about as long as a
    decode step, so that the time between tokens about doubles. It may take longer where more
    wait than run (decoding few rows while many wait is a waste) and for a short prompt: where
    reading the weights is what takes time, a few tokens cost as much as many, and cut into small
    pieces a prompt would cost the streams more in all. The chunk grows while it stays within
    what is allowed, and shrinks when it does not.

    Args:
        prefill_pause_s: how long prefilling may take then, if that is more than a few decode steps.
    """

    SMALLEST, SHORT, LARGEST = 6, 256, 2048
    GENTLE_STEPS, HURRIED_STEPS = 1.0, 4.0
    REMEMBERED = 15

    def __init__(self, prefill_pause_s: float) -> None:
        self._prefill_pause_s = prefill_pause_s
        self._steps: deque[float] = deque(maxlen=self.REMEMBERED)
        self._step_s = 0.0
        self._size = 64.0
        self._hurries = False

    def note_newcomers(self, *, tokens: int, waiting: int, running: int) -> None:
        """Take note of how much the next one needs, and of how many wait for how many."""
        self._hurries = waiting > running or tokens <= self.SHORT

    @property
    def allowance_s(self) -> float:
        """How long prefilling may take between two decode steps."""
        if self._hurries:
            return max(self._prefill_pause_s, self.HURRIED_STEPS * self._step_s)
        return self._gentle_s

    @property
    def _gentle_s(self) -> float:
        return self.GENTLE_STEPS * self._step_s or self._prefill_pause_s

    @property
    def _scale(self) -> float:
        """How much more than gently is allowed now."""
        return self.allowance_s / self._gentle_s

    def note_step(self, seconds: float) -> None:
        """Take note of a decode step that no prefill has disturbed."""
        self._steps.append(seconds)
        # Not the mean: after one slow step everybody would have to wait longer, too.
        self._step_s = statistics.median(self._steps)

    def note_chunk(self, tokens: int, seconds: float) -> None:
        """Take note of how long a chunk took."""
        room = self.allowance_s / max(seconds, 1e-6)
        gentle_tokens = min(tokens, self.LARGEST) / self._scale
        if room < 1.0 or gentle_tokens >= self._size:
            fitting = gentle_tokens * max(0.25, min(room, 1.5))
            self._size = max(float(self.SMALLEST), min(float(self.LARGEST), fitting))

    def chunk(self, *, decoding: bool) -> int:
        """How many tokens to prefill in one piece now."""
        return min(self.LARGEST, int(self._size * self._scale)) if decoding else self.LARGEST

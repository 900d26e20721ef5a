"""How much is prefilled between two decode steps."""

from __future__ import annotations

import math
import statistics
from collections import deque

from worker.engine.schedule.piece_speed import PieceSpeed

LONGEST_WORK_S = 1.0
"""About the longest that the device gets to do at once, whoever decodes: until it is done, nobody
can be cancelled or let in, and the engine looks as if it hung."""
AIMED_AT = 0.6
"""Of that; the rest is for what is not foreseen."""


class Pacer:
    """Chooses how much to prefill between two decode steps.

    Streams should feel a newcomer as little as possible: prefilling may take about as long as a
    decode step, so that the time between tokens about doubles. It may take longer where more
    wait than run (decoding few rows while many wait is a waste) and for a short prompt: where
    reading the weights is what takes time, a few tokens cost as much as many, and cut into small
    pieces a prompt would cost the streams more in all. The chunk grows while it stays within
    what is allowed, and shrinks when it does not.

    Where even the smallest chunk takes far longer than allowed, making it smaller only makes more
    of them: on an H200 a chunk of new shape took 40 ms beside steps of 7, and a prompt of 1,500
    tokens was cut into more than a hundred. There half of a chunk's time goes to its tokens. That
    must have been seen with small chunks, and lately: told from larger ones, which look back at
    unlike lengths of prompt, it was found where it was not, and streams stood still for a second.
    The steps beside them must not have become as slow: other work on the machine slows both.

    With nobody decoding a chunk is as large as can be, within `LONGEST_WORK_S`.

    Args:
        prefill_pause_s: how long prefilling may take then, if that is more than a few decode steps.
        largest: most tokens of a piece, if fewer than these.
        steady: every piece is as large as can be, however long it takes, and comes alone between
            two decode steps.
    """

    SMALLEST, SMALL, SHORT, LARGEST = 6, 8, 256, 2048
    FIRST = 64
    """Before anything was measured."""
    GENTLE_STEPS, HURRIED_STEPS = 1.0, 4.0
    REMEMBERED, SMALL_REMEMBERED = 15, 8
    FUTILE = 2.0
    """What a small chunk takes, in allowances, above which smaller ones are no remedy."""

    def __init__(
        self, prefill_pause_s: float, largest: int | None = None, *, steady: bool = False
    ) -> None:
        self.prefill_pause_s = prefill_pause_s
        self._steady = steady
        if largest is not None:
            self.LARGEST, self.FIRST = largest, min(self.FIRST, largest)
        self._steps: deque[float] = deque(maxlen=self.REMEMBERED)
        self._disturbed: deque[float] = deque(maxlen=self.REMEMBERED)
        self._since_undisturbed = 0
        self._step_s = 0.0
        self._size = 64.0
        self._hurries = False
        self._small_s: deque[float] = deque(maxlen=self.SMALL_REMEMBERED)
        self._since_small = 0
        self._speed = PieceSpeed()

    def note_newcomers(self, *, tokens: int, waiting: int, running: int) -> None:
        """Take note of how much the next one needs, and of how many wait for how many."""
        self._hurries = waiting > running or tokens <= self.SHORT

    @property
    def allowance_s(self) -> float:
        """How long prefilling may take between two decode steps."""
        if self._steady:
            return math.inf
        if self._hurries:
            return max(self.prefill_pause_s, self.HURRIED_STEPS * self._step_s)
        return self._gentle_s

    @property
    def _gentle_s(self) -> float:
        return self.GENTLE_STEPS * self._step_s or self.prefill_pause_s

    @property
    def _worthwhile_s(self) -> float:
        """How long a chunk may take: `allowance_s`, or twice what even a small one takes where
        that is far longer."""
        fixed_s = min(self._small_s, default=0.0)
        beside_s = statistics.median(self._disturbed) if self._disturbed else 0.0
        is_futile = fixed_s > self.FUTILE * max(self.allowance_s, beside_s)
        return 2 * fixed_s if is_futile else self.allowance_s

    @property
    def _must_try_small(self) -> bool:
        """What small chunks took long ago, perhaps beside other work, may be true no more."""
        is_longer = self._worthwhile_s > self.allowance_s
        return is_longer and self._since_small >= self.REMEMBERED

    @property
    def _scale(self) -> float:
        """How much more than gently is allowed now."""
        return self.allowance_s / self._gentle_s

    def enough(self, spent_s: float) -> bool:
        """Whether another piece, which takes about as long as those so far, would be too much."""
        return self._steady or 2 * spent_s > self.allowance_s

    def note_step(self, seconds: float, *, disturbed: bool = False) -> None:
        """Take note of a decode step.

        Args:
            disturbed: whether something was prefilled before it.
        """
        (self._disturbed if disturbed else self._steps).append(seconds)
        self._since_undisturbed = self._since_undisturbed + 1 if disturbed else 0
        # Not the mean: after one slow step everybody would have to wait longer, too.
        self._step_s = statistics.median(self._steps) if self._steps else 0.0
        if self._since_undisturbed > self.REMEMBERED:
            # Somebody comes at every step. The least of these has least of that in it.
            self._step_s = max(self._step_s, min(self._disturbed))

    def note_chunk(self, tokens: int, seconds: float, middle: float | None = None) -> None:
        """Take note of how long a chunk took.

        Args:
            middle: how many tokens its middle one looked back at; None: only at the chunk's.
        """
        self._speed.note(tokens, seconds, tokens / 2 if middle is None else middle)
        self._since_small += 1
        if tokens <= self.SMALL:
            self._small_s.append(seconds)
            self._since_small = 0
        room = self._worthwhile_s / max(seconds, 1e-6)
        gentle_tokens = min(tokens, self.LARGEST) / self._scale
        if room < 1.0 or gentle_tokens >= int(self._size):
            fitting = gentle_tokens * max(0.25, min(room, 1.5))
            self._size = max(float(self.SMALLEST), min(float(self.LARGEST), fitting))

    def chunk(self, *, decoding: bool, start: int = 0, left: int | None = None) -> int:
        """How many tokens to prefill in one piece now.

        Args:
            start: from which one on.
            left: how many there are; what a piece would leave that is smaller than the smallest
                goes with it.
        """
        tokens = self._chunk(decoding=decoding, start=start)
        if left is None or tokens + self.SMALLEST <= left:
            return tokens
        return min(left, self.LARGEST)

    def _chunk(self, *, decoding: bool, start: int) -> int:
        if self._steady:
            return self.LARGEST
        within = self.LARGEST if decoding else self.FIRST
        if self._speed.known:
            within = self._speed.tokens_within(AIMED_AT * LONGEST_WORK_S, start, self.LARGEST)
        most = max(self.SMALLEST, within)
        if not decoding:
            return most
        if self._must_try_small:
            return min(most, self.SMALLEST)
        return min(most, max(self.SMALLEST, int(self._size * self._scale)))

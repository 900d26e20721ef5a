"""A clock of the time in which this process ran.

A process that is stopped, or whose machine is suspended, hears nothing meanwhile. That silence is
its own: it must not be held against its gateway or its engine.
"""

from __future__ import annotations

import time

LONGEST_TURN_S = 0.5
"""Whoever looks at the clock does so several times a second; what passed beyond this between two
looks does not count."""


class AwakeClock:
    """Monotonic seconds; moves only when it is looked at."""

    def __init__(self) -> None:
        self._looked_at = self._now = time.monotonic()
        self.stood_still = False
        """Whether this process did not run for a while before the latest look."""

    def look(self) -> float:
        looked_at = time.monotonic()
        passed_s = looked_at - self._looked_at
        self.stood_still = passed_s > LONGEST_TURN_S
        self._looked_at = looked_at
        self._now += min(passed_s, LONGEST_TURN_S)
        return self._now

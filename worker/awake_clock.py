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

    def look(self) -> float:
        looked_at = time.monotonic()
        passed_s = looked_at - self._looked_at
        self._looked_at = looked_at
        self._now += min(passed_s, LONGEST_TURN_S)
        return self._now


class AwakeAge:
    """How long ago something happened that happens again and again."""

    def __init__(self) -> None:
        self._clock = AwakeClock()
        self._happened_at = 0.0
        self._since = 0.0

    def of(self, happened_at: float) -> float:
        """Return its age, in seconds that this process ran; to be asked several times a second.

        Args:
            happened_at: the latest time, in monotonic seconds.
        """
        now = self._clock.look()
        if happened_at != self._happened_at:
            self._happened_at = happened_at
            # Looked at only now, so it is no older than a turn, whatever the time has done since.
            self._since = now - min(time.monotonic() - happened_at, LONGEST_TURN_S)
        return now - self._since

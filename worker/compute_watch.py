"""Tells an engine that computes inside a long step from one that hangs: by the CPU it burns.

On a GPU a step that computes burns none, and looks like one that hangs. No step is long there:
the engine cuts its work into pieces of about a second, but for what a model's family forbids.
"""

from __future__ import annotations

import time

LOOK_EVERY_S = 0.25
LEAST_SHARE = 0.05
"""Of a core. What is left of one on a machine where twenty others compute."""
MOST_STALLS = 10
"""An endless loop burns CPU, too: a step gets so many stall timeouts and no more."""


class ComputeWatch:
    """Belongs to the link's thread, whose own CPU time does not count."""

    def __init__(self) -> None:
        self._looked_at = time.monotonic()
        self._spent_s = _spent_s()

    def computed(self) -> bool:
        """Whether the process has computed since it was last asked; False in between looks."""
        now = time.monotonic()
        passed_s = now - self._looked_at
        if passed_s < LOOK_EVERY_S:
            return False
        spent_s = _spent_s()
        computed = spent_s - self._spent_s >= LEAST_SHARE * passed_s
        self._looked_at, self._spent_s = now, spent_s
        return computed


def _spent_s() -> float:
    """CPU seconds of all threads but this one."""
    return time.process_time() - time.thread_time()

"""Whether the worker still takes jobs, why not, and when its engine process is to end."""

from __future__ import annotations

import logging
import math
import time
from enum import Enum

from worker.settings import GIB, Settings

log = logging.getLogger(__name__)


class Ending(Enum):
    """Why the engine process ends."""

    LEAVE = "leave"
    RECYCLE = "recycle"


class Draining:
    """No new jobs from `begin` on; those that run have `--drain-timeout` to come to their end, or
    all the time they want.

    `paused` takes no jobs either, but ends nothing: an operator's drain, until resumed.
    """

    def __init__(self, settings: Settings) -> None:
        self.paused = False
        self.ending = Ending.LEAVE
        self._settings = settings
        self._until: float | None = None
        self._warned = False

    @property
    def refuses(self) -> bool:
        return self.paused or self._until is not None

    def begin(self, ending: Ending, *, when_idle: bool = False) -> None:
        """The first reason counts, and the earliest time."""
        until = math.inf if when_idle else time.monotonic() + self._settings.drain_timeout
        if self._until is None:
            self.ending = ending
        self._until = until if self._until is None else min(until, self._until)

    def recycle_if_due(self, served: int, memory_bytes: float) -> None:
        """Begin when the engine has served or grown as much as the settings allow.

        An engine that has served nothing stays: a fresh one would be no smaller.
        """
        after, limit_gib = self._settings.recycle_after_requests, self._settings.recycle_memory_gib
        grown = bool(limit_gib) and memory_bytes > limit_gib * GIB
        if grown and not served and not self._warned:
            self._warned = True
            log.warning(
                "--recycle-memory-gib %g: the model alone takes %.1f GiB, so the engine will be "
                "restarted after each request",
                limit_gib,
                memory_bytes / GIB,
            )
        if self._until is None and ((after and served >= after) or (grown and served)):
            log.info("the engine is restarted to stay fresh")
            self.begin(Ending.RECYCLE)

    def over(self, running: int, now: float) -> bool:
        return self._until is not None and (running == 0 or now >= self._until)

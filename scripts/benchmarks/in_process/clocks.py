"""Seconds of the CPU beside those of the wall, because a neighbour inflates them less."""

from __future__ import annotations

import time
from dataclasses import dataclass


@dataclass(frozen=True)
class Clocks:
    """Seconds since some moment: on the wall, and of the processor in all threads."""

    wall_s: float
    cpu_s: float

    @staticmethod
    def now() -> Clocks:
        return Clocks(time.perf_counter(), time.process_time())

    def __sub__(self, other: Clocks) -> Clocks:
        return Clocks(self.wall_s - other.wall_s, self.cpu_s - other.cpu_s)

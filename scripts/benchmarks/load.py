"""The load on a server: what was asked, and what came of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from scripts.benchmarks.report import percentile

NUMBER = "{{number}}"
"""Stands in a body where each request gets a number of its own, so that no cache can help."""

PICTURE = "{{picture}}"
"""Stands in a body where each request gets another one of the target's pictures."""


@dataclass(frozen=True)
class Target:
    """Where to send which body. `events`: server-sent events of one answer, 0 when it is whole;
    `pictures`: data URLs."""

    url: str
    body: str
    events: int = 0
    pictures: Sequence[str] = ()


@dataclass(frozen=True)
class Outcome:
    """What one run of load measured. Times in seconds.

    `first_s` are times to the first text of an answer, `gaps_s` those between the texts of each
    stream; both are empty where the client cannot see them (wrk).
    """

    requests: int
    seconds: float
    p50_s: float
    p99_s: float
    errors: int = 0
    first_s: Sequence[float] = field(default_factory=list)
    gaps_s: Sequence[float] = field(default_factory=list)

    @property
    def per_second(self) -> float:
        return self.requests / self.seconds if self.seconds else 0.0


def summed_up(
    latencies_s: Sequence[float],
    seconds: float,
    errors: int,
    first_s: Sequence[float],
    gaps_s: Sequence[float],
) -> Outcome:
    return Outcome(
        requests=len(latencies_s),
        seconds=seconds,
        p50_s=percentile(latencies_s, 0.5),
        p99_s=percentile(latencies_s, 0.99),
        errors=errors,
        first_s=first_s,
        gaps_s=gaps_s,
    )

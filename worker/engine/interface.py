"""The seam between the worker's loop and what generates: MLX, or a script for tests.

One thread, the engine thread, makes every call here but `wake`. All changes to the batch happen
between two steps.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from shared.messages import Accepted, CountedTokens, Delta, Done, Failed, Job

EngineEvent = Accepted | Delta | Done | Failed | CountedTokens


class ModelError(Exception):
    """The model cannot be served, now or after a restart (not found, unsupported, incomplete)."""


class ModelUnavailable(Exception):
    """The model cannot be had now; a later start may succeed (no network, a full disk)."""


@dataclass(frozen=True)
class ModelFacts:
    """What the worker tells gateways about its model once it is loaded.

    Attributes:
        proven: what was tried with it, and whether its answers were right.
    """

    device: str
    vision: bool
    context_tokens: int | None = None
    proven: dict[str, bool] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)


class Engine(Protocol):
    """An engine that exists has its model loaded."""

    facts: ModelFacts

    def submit(self, job: Job, images: Sequence[bytes]) -> None:
        """Take a job. Returns at once and never raises for the job's own faults: those come out
        of `step` as `Failed`. An accepted job yields `Accepted`, then `Delta`s, then `Done`.

        With `job.resume`, its tokens are replayed silently: deltas go on after them.
        """

    def count(self, job: Job, images: Sequence[bytes]) -> None:
        """Count the tokens of a job's prompt, beside all generations. Returns at once; `step`
        yields `CountedTokens`, however long the prompt is, or `Failed`."""

    def cancel(self, job_id: str) -> bool:
        """Forget the job; False if it is not here (any more). No event follows for it."""

    def step(self) -> list[EngineEvent]:
        """Do one bounded piece of work (at most one decode step and one prefill chunk)."""

    def has_work(self) -> bool:
        """Whether `step` has something to do now; False while only preprocessing is pending."""

    def gauges(self) -> dict[str, float]:
        """Figures for heartbeats: memory_bytes, cache hits and sizes, tokens_per_second."""


Report = Callable[[float], None]
"""Takes how much of the loading is done, 0 to 1."""

Trying = Callable[[str], None]
"""Takes what comes next on the way to a model that serves ("warming up"), before it is begun: an
abort inside MLX or a segmentation fault leaves no time to say it."""

WakeLoop = Callable[[], None]
"""Callable from any thread; makes the loop call `step` soon (when preprocessing on another thread
has finished)."""

EngineFactory = Callable[[Report, WakeLoop], Engine]
"""Loads an engine, on the thread that makes every later call. Raises ModelError if it can never
work (the worker gives up with this message), ModelUnavailable if it cannot be had now."""

"""Where a step goes: handing the graph over, waiting for the device, and the rest."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any
from unittest import mock

from scripts.benchmarks.in_process.engines import Ours, requests
from scripts.benchmarks.report import Row, median
from shared.messages import Delta, Done, Failed
from worker.engine.cache import arrays
from worker.engine.schedule import batch

SKIPPED_STEPS = 8
"""The first ones prefill."""

WAIT_WORTH_COUNTING = 0.05
"""Of a step: less is the cost of asking."""


class Stopwatch:
    """Seconds spent in a function since the last reset."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self.seconds = 0.0
        self._function = function

    def __call__(self, *arguments: Any) -> Any:
        started = time.perf_counter()
        try:
            return self._function(*arguments)
        finally:
            self.seconds += time.perf_counter() - started


def host_time(ours: Ours, rows: int, tokens: int) -> Row:
    """Decode, and time each step and its parts.

    A wait for tokens above nothing means that the device was the slower one: the host's part of
    the step was hidden behind it.
    """
    for request in requests(rows, tokens, False):
        ours.engine.submit(request.job, request.images)
    waiting, handing_over = Stopwatch(arrays.to_host), Stopwatch(arrays.start)
    steps: list[tuple[float, float, float]] = []
    left = rows
    with (
        mock.patch.object(batch, "to_host", waiting),
        mock.patch.object(batch, "start", handing_over),
    ):
        while left:
            waiting.seconds = handing_over.seconds = 0.0
            started = time.perf_counter()
            events = ours.turn()
            spent = time.perf_counter() - started
            assert not any(isinstance(event, Failed) for event in events)
            left -= sum(isinstance(event, Done) for event in events)
            if sum(isinstance(event, Delta) for event in events) == rows:
                steps.append((spent, waiting.seconds, handing_over.seconds))
    steps = steps[SKIPPED_STEPS:]
    hidden = sum(wait > WAIT_WORTH_COUNTING * step for step, wait, _ in steps)
    return {
        "rows": rows,
        "step_ms": median(step for step, _, _ in steps) * 1e3,
        "handing_over_ms": median(handed for _, _, handed in steps) * 1e3,
        "waiting_for_the_device_ms": median(wait for _, wait, _ in steps) * 1e3,
        "rest_of_the_host_ms": median(s - w - h for s, w, h in steps) * 1e3,
        "steps_with_host_hidden": hidden / len(steps),
    }

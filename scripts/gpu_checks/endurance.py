"""Memory over thousands of steps: what is held beyond keys and values must not grow."""

from __future__ import annotations

import mlx.core as mx
import psutil

from scripts.benchmarks.in_process.engines import Ours, requests
from scripts.benchmarks.report import Row
from scripts.gpu_checks.sizes import Sizes
from scripts.gpu_checks.speed import random_model
from shared.messages import Delta, Done, Failed

ROWS = 8
LOOKS = 10
MIB = 2**20


def check(sizes: Sizes) -> dict[str, list[Row]]:
    with random_model(sizes) as path:
        ours = Ours(str(path))
        rows = _watched(ours, sizes.steps)
    return {f"Memory over {sizes.steps} steps of {ROWS} rows": rows}


def _watched(ours: Ours, steps: int) -> list[Row]:
    for request in requests(ROWS, steps, False):
        ours.engine.submit(request.job, request.images)
    looks: list[Row] = []
    made, left = 0, ROWS
    while left:
        events = ours.turn()
        assert not any(isinstance(event, Failed) for event in events)
        left -= sum(isinstance(event, Done) for event in events)
        made += any(isinstance(event, Delta) and event.job == "0" for event in events)
        if made >= (len(looks) + 1) * steps // LOOKS and left == ROWS:
            looks.append(_look(made))
    return looks


def _look(step: int) -> Row:
    return {
        "step": step,
        "device_mib": mx.get_active_memory() / MIB,
        "freed_buffers_mib": mx.get_cache_memory() / MIB,
        "resident_mib": psutil.Process().memory_info().rss / MIB,
    }

"""When arrays are computed, and when somebody waits for that."""

from __future__ import annotations

import time
from typing import Any

import mlx.core as mx


def to_host(array: mx.array) -> Any:
    """Wait for an array and return it as (nested lists of) Python numbers."""
    return array.tolist()


def start(arrays: Any) -> None:
    """Begin to compute arrays, in any nesting, without waiting for them."""
    mx.async_eval(arrays)  # type: ignore[no-untyped-call]


def wait_for_device() -> float:
    """Wait until all that was begun is computed. Returns how long that took, in seconds."""
    started = time.perf_counter()
    mx.synchronize()
    return time.perf_counter() - started

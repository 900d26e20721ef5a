"""How tests wait: until a condition holds, and never by the clock alone."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

TIMEOUT_S = 60.0


def await_condition(holds: Callable[[], T], what: str, timeout_s: float = TIMEOUT_S) -> T:
    """Return the first true value of `holds`, looked at every few milliseconds."""
    until = time.monotonic() + timeout_s
    while time.monotonic() < until:
        value = holds()
        if value:
            return value
        time.sleep(0.01)
    raise AssertionError(f"not within {timeout_s:g} s: {what}")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])

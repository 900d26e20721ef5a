"""Whether other threads compute, seen from one that does not."""

from __future__ import annotations

import threading
import time

from tests.waiting import await_condition
from worker.compute_watch import LOOK_EVERY_S, ComputeWatch


def test_another_thread_that_computes_is_seen() -> None:
    over = threading.Event()

    def compute() -> None:
        while not over.is_set():
            sum(range(1000))

    thread = threading.Thread(target=compute)
    watch = ComputeWatch()
    thread.start()
    try:
        await_condition(watch.computed, "what it burns")
    finally:
        over.set()
        thread.join()


def test_what_this_thread_burns_does_not_count() -> None:
    watch = ComputeWatch()
    ends_at = time.monotonic() + 2 * LOOK_EVERY_S
    while time.monotonic() < ends_at:
        sum(range(1000))
    assert not watch.computed()

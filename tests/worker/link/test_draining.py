"""When a worker takes no more jobs, and when its engine process is to end."""

from __future__ import annotations

import time

import pytest

from worker.link.draining import Draining, Ending
from worker.settings import GIB, Settings


def test_memory_renews_an_engine_only_once_it_has_served(
    caplog: pytest.LogCaptureFixture,
) -> None:
    draining = Draining(Settings(recycle_memory_gib=1.0))
    for _ in range(2):
        draining.recycle_if_due(0, 2.0 * GIB)
    assert not draining.refuses
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    draining.recycle_if_due(1, 0.5 * GIB)
    assert not draining.refuses
    draining.recycle_if_due(1, 2.0 * GIB)
    assert draining.refuses
    assert draining.ending is Ending.RECYCLE


def test_who_leaves_when_idle_is_not_hurried_but_by_who_has_less_time() -> None:
    now = time.monotonic()
    draining = Draining(Settings(recycle_after_requests=1, drain_timeout=5.0))
    draining.begin(Ending.LEAVE, when_idle=True)
    draining.recycle_if_due(1, 0.0)
    assert not draining.over(running=1, now=now + 1e9)
    assert draining.over(running=0, now=now)
    draining.begin(Ending.RECYCLE)
    assert not draining.over(running=1, now=now + 4.9)
    assert draining.over(running=1, now=now + 1e9)
    assert draining.ending is Ending.LEAVE

"""When a worker takes no more jobs, and when its engine process is to end."""

from __future__ import annotations

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

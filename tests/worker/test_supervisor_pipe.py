"""What the engine process tells its supervisor."""

from __future__ import annotations

import pytest

from worker.supervisor_pipe import REPORT_EVERY_S, SupervisorPipe


def test_reports_are_no_more_frequent_than_a_supervisor_needs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = 100.0
    monkeypatch.setattr("worker.supervisor_pipe.time.monotonic", lambda: now)
    pipe = SupervisorPipe(None)
    assert pipe.due()
    assert not pipe.due()
    now += 0.9 * REPORT_EVERY_S
    assert not pipe.due()
    now += 0.2 * REPORT_EVERY_S
    assert pipe.due()

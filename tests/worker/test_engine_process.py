"""What the engine process tells its supervisor."""

from __future__ import annotations

from typing import Any

import pytest

from worker.engine.interface import ModelError
from worker.loop import EngineThread
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


@pytest.mark.parametrize(
    ("error", "hopeless"), [(RuntimeError("device lost"), False), (ModelError("no such"), True)]
)
def test_a_dead_engine_thread_is_seen_to_be_dead(error: Exception, hopeless: bool) -> None:
    """Not a process that goes on to say that all is well: its link ends with the thread."""

    class Loop:
        def run(self) -> None:
            raise error

    loop: Any = Loop()
    engine = EngineThread(loop)
    engine.start()
    engine.join(10)
    assert not engine.is_alive()
    assert (engine.hopeless is not None) is hopeless

"""What the engine process tells its supervisor."""

from __future__ import annotations

import json
import os

import pytest

from worker.supervisor_pipe import MAX_RUN_ID_CHARACTERS, REPORT_EVERY_S, SupervisorPipe

PIPE_BUF = 512
"""The least that POSIX writes to a pipe in one piece; macOS has it."""


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


def test_whatever_a_run_is_called_its_line_is_written_in_one_piece() -> None:
    read_end, write_end = os.pipe()
    pipe = SupervisorPipe(write_end)
    for run_id in ["a", "\x00" * MAX_RUN_ID_CHARACTERS, "🦜" * MAX_RUN_ID_CHARACTERS]:
        for tell in (pipe.begun, pipe.ended):
            tell(run_id)
            line = os.read(read_end, 1 << 16)
            assert json.loads(line).popitem()[1] == run_id
            assert len(line) <= PIPE_BUF
    os.set_blocking(read_end, False)
    pipe.begun("a" * (MAX_RUN_ID_CHARACTERS + 1))
    with pytest.raises(BlockingIOError):
        os.read(read_end, 1)
    os.close(read_end)
    os.close(write_end)

"""What a supervisor knows of the runs of an engine process, whatever becomes of that."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

from worker.begun_runs import MAX_RUN_ID_CHARACTERS, PLACES, BegunRuns, make_file


@pytest.fixture
def descriptor() -> Iterator[int]:
    descriptor = make_file()
    yield descriptor
    os.close(descriptor)


@pytest.fixture
def engine(descriptor: int) -> Iterator[BegunRuns]:
    runs = BegunRuns(descriptor)
    yield runs
    runs.close()


@pytest.fixture
def supervisor(descriptor: int) -> Iterator[BegunRuns]:
    runs = BegunRuns(descriptor)
    yield runs
    runs.close()


def test_what_has_begun_and_not_ended_is_known(engine: BegunRuns, supervisor: BegunRuns) -> None:
    assert supervisor.names() == []
    longest = "🦜" * MAX_RUN_ID_CHARACTERS
    for run_id in ["a", longest, "c"]:
        engine.begun(run_id)
    engine.ended("a")
    engine.begun("d")
    assert sorted(supervisor.names() or []) == ["c", "d", longest]
    assert (supervisor.count, supervisor.under_way) == (4, 3)
    for run_id in [longest, "c", "d"]:
        engine.ended(run_id)
    assert (supervisor.names(), supervisor.under_way) == ([], 0)


def test_what_was_never_begun_cannot_end(engine: BegunRuns, supervisor: BegunRuns) -> None:
    """A prompt that could not be counted fails, too."""
    engine.begun("a")
    engine.ended("another")
    assert (supervisor.names(), supervisor.under_way) == (["a"], 1)


def test_a_name_that_is_none_of_ours_is_not_noted(engine: BegunRuns, supervisor: BegunRuns) -> None:
    engine.begun("a" * (MAX_RUN_ID_CHARACTERS + 1))
    engine.ended("a" * (MAX_RUN_ID_CHARACTERS + 1))
    assert (supervisor.names(), supervisor.count) == ([], 0)


def test_of_too_many_runs_nobody_knows_the_names(engine: BegunRuns, supervisor: BegunRuns) -> None:
    runs = [str(number) for number in range(PLACES + 1)]
    for run_id in runs:
        engine.begun(run_id)
    assert supervisor.under_way == len(runs)
    assert supervisor.names() is None
    engine.ended(runs[-1])
    assert set(supervisor.names() or []) == set(runs[:-1])
    engine.ended(runs[0])
    engine.begun("late")
    assert set(supervisor.names() or []) == {*runs[1:-1], "late"}


def test_a_process_that_is_killed_leaves_its_notes(descriptor: int, supervisor: BegunRuns) -> None:
    program = (
        "import os, signal, sys\n"
        "from worker.begun_runs import BegunRuns\n"
        "runs = BegunRuns(int(sys.argv[1]))\n"
        "for name in ('a', 'b', 'c'): runs.begun(name)\n"
        "runs.ended('b')\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    command = [sys.executable, "-c", program, str(descriptor)]
    assert subprocess.run(command, pass_fds=[descriptor]).returncode == -signal.SIGKILL
    assert sorted(supervisor.names() or []) == ["a", "c"]

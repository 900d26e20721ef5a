"""Engines of one machine share its memory, and what a dead one had is free."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.processes import ROOT
from tests.waiting import await_condition
from tests.worker.engine.conftest import MakeDriver
from tests.worker.engine.driving import job, sampled
from worker.engine.cache.footprint import Footprint, LayerBytes
from worker.engine.faults import JobFault
from worker.engine.options import MemoryShare
from worker.engine.schedule.memory_budget import MemoryBudget
from worker.engine.schedule.neighbours import Neighbours, Taken, runtime_folder

GROUP = "host"
PAGE = 1000
ONE_BYTE_A_TOKEN = Footprint((LayerBytes(a_token=1.0),))

HOLDER = """
import sys, time
from worker.engine.schedule.neighbours import Neighbours, Taken
neighbours = Neighbours()
neighbours.tell(Taken(group=sys.argv[1], passing_bytes=int(sys.argv[2])))
print("told", flush=True)
time.sleep(3600)
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the engines of this test meet, and nobody else."""
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    return runtime_folder()


@contextmanager
def holding(passing_bytes: int) -> Iterator[subprocess.Popen[str]]:
    """An engine's process, as far as others know."""
    command = [sys.executable, "-c", HOLDER, GROUP, str(passing_bytes)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stdout.readline() == "told\n"
        try:
            yield process
        finally:
            process.kill()


def budget(neighbours: Neighbours | None = None, **share: object) -> MemoryBudget:
    made = MemoryBudget(
        10 * PAGE,
        ONE_BYTE_A_TOKEN,
        MemoryShare(**share),  # type: ignore[arg-type]
        neighbours,
    )
    made.model_bytes = PAGE
    return made


def test_each_hears_what_the_others_take_until_they_end(folder: Path) -> None:
    mine, other = Neighbours(), Neighbours()
    assert mine.others() == [Taken()]
    other.tell(Taken("g", 4, 3, 2, 1))
    assert mine.others() == [Taken("g", 4, 3, 2, 1)]
    with holding(7):
        assert {taken.passing_bytes for taken in mine.others()} == {2, 7}
    assert {taken.passing_bytes for taken in mine.others()} == {2}  # it was killed with -9
    other.leave()
    assert mine.others() == []
    assert len(list(folder.iterdir())) == 1


def test_whoever_tidies_the_folder_hides_nobody(folder: Path) -> None:
    mine, other = Neighbours(), Neighbours()
    other.tell(Taken(passing_bytes=5))
    for file in folder.iterdir():
        file.unlink()
    folder.rmdir()
    assert mine.others() == []
    assert other.others() == [Taken()]
    assert mine.others() == [Taken(passing_bytes=5)]


def test_a_folder_that_others_may_write_is_not_believed(folder: Path) -> None:
    folder.mkdir(mode=0o777)
    folder.chmod(0o777)
    mine, other = Neighbours(), Neighbours()
    other.tell(Taken(passing_bytes=5))
    assert mine.others() == []
    assert list(folder.iterdir()) == []


def test_who_cannot_enter_is_alone_and_says_so_once(
    folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """As where a file system has no locks."""
    mine = Neighbours()
    next(folder.iterdir()).unlink()

    def no_locks(*_: object) -> None:
        raise OSError("no locks available")

    monkeypatch.setattr("fcntl.flock", no_locks)
    for _ in range(3):
        assert mine.others() == []
        mine.tell(Taken(passing_bytes=5))
    assert caplog.text.count("no locks available") == 1
    assert list(folder.iterdir()) == []


def test_who_has_no_temporary_folder_is_alone(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """As where all disks are full: each is tried by writing to it."""

    def none_usable() -> str:
        raise FileNotFoundError("no usable temporary directory")

    monkeypatch.delenv("XDG_RUNTIME_DIR")
    monkeypatch.setattr("tempfile.gettempdir", none_usable)
    assert Neighbours().others() == []
    assert "no usable temporary directory" in caplog.text


def test_what_is_no_record_is_nobody(folder: Path) -> None:
    mine = Neighbours()
    (folder / "strange.engine").write_text("{}")
    (folder / "link.engine").symlink_to("/etc/hostname")
    assert mine.others() == []


@pytest.mark.parametrize(
    ("share", "other", "for_jobs", "free"),
    [
        # The machine's 10 pages, a tenth kept back, less our own model of one.
        ({}, Taken(), 8, 8),
        ({}, Taken(fixed_bytes=3 * PAGE), 5, 5),
        ({}, Taken(fixed_bytes=3 * PAGE, passing_bytes=2 * PAGE), 5, 3),
        ({}, Taken(claimed_bytes=4 * PAGE, fixed_bytes=PAGE, passing_bytes=PAGE), 4, 4),
        ({}, Taken(claimed_bytes=4 * PAGE, fixed_bytes=PAGE, passing_bytes=5 * PAGE), 4, 2),
        ({}, Taken(fixed_bytes=20 * PAGE), 0, 0),
        # An operator's own figure holds, whatever others take.
        ({"budget_bytes": 6 * PAGE, "explicit": True}, Taken(fixed_bytes=20 * PAGE), 5, 5),
        # A host's engines share its budget, and with others the machine.
        (
            {"budget_bytes": 6 * PAGE, "group": GROUP, "explicit": True},
            Taken(GROUP, fixed_bytes=2 * PAGE, passing_bytes=PAGE),
            3,
            2,
        ),
        ({"budget_bytes": 6 * PAGE, "group": GROUP}, Taken("x", fixed_bytes=2 * PAGE), 5, 5),
        ({"budget_bytes": 6 * PAGE, "group": GROUP}, Taken("x", fixed_bytes=5 * PAGE), 3, 3),
    ],
)
def test_what_is_left_beside_others(
    share: dict[str, object], other: Taken, for_jobs: int, free: int
) -> None:
    neighbour = Neighbours()
    neighbour.tell(other)
    mine = budget(Neighbours(), **share)
    mine.look_around()
    assert (mine.for_jobs_bytes, -mine.shortage()) == (for_jobs * PAGE, free * PAGE)


def test_a_request_waits_for_what_others_will_give_back_and_is_refused_the_rest() -> None:
    neighbour = Neighbours()
    neighbour.tell(Taken(fixed_bytes=3 * PAGE, passing_bytes=2 * PAGE))
    mine = budget(own := Neighbours())
    mine.look_around()
    assert not mine.reserve("a", 4 * PAGE)
    assert neighbour.others()[0].wanted_bytes == PAGE
    with pytest.raises(JobFault, match="beside 0 MiB of other engines"):
        mine.reserve("b", 6 * PAGE)
    neighbour.tell(Taken(fixed_bytes=3 * PAGE))
    mine.look_around()
    assert mine.reserve("a", 4 * PAGE)
    told = neighbour.others()[0]
    assert (told.passing_bytes, told.wanted_bytes) == (4 * PAGE, 0)
    mine.release("a")
    mine.look_around()
    assert neighbour.others()[0].passing_bytes == 0
    own.leave()


def test_a_budget_that_the_model_fills_is_said_at_the_start(
    caplog: pytest.LogCaptureFixture,
) -> None:
    budget(budget_bytes=PAGE + 1, explicit=True).describe()
    assert not caplog.records
    budget(budget_bytes=PAGE, explicit=True).describe()
    assert "no memory for requests" in caplog.text


def test_two_that_reserve_at_once_do_not_both_get_the_last_bytes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The other one reserves after we have looked, and before we have told."""
    mine, other = budget(Neighbours()), budget(Neighbours())
    other.look_around()
    mine.look_around()
    tell = Neighbours.tell

    def tell_late(neighbours: Neighbours, taken: Taken) -> None:
        monkeypatch.setattr(Neighbours, "tell", tell)
        assert other.reserve("theirs", 4 * PAGE)
        tell(neighbours, taken)

    monkeypatch.setattr(Neighbours, "tell", tell_late)
    assert not mine.reserve("ours", 4 * PAGE)
    other.release("theirs")
    other.look_around()
    mine.look_around()
    assert mine.reserve("ours", 4 * PAGE)


# --- engines -------------------------------------------------------------------------------------


def test_what_a_killed_engine_had_is_free_at_once(drive: MakeDriver) -> None:
    driver = drive(memory=MemoryShare(1 << 30, GROUP, explicit=True))
    with holding(1 << 30) as other:
        driver.submit_prepared(job("a"))
        await_condition(lambda: bool(driver.turn()), "the job's acceptance")
        assert driver.engine.gauges()["waiting"] == 1
        assert not driver.engine.has_work()  # it does not spin
        os.kill(other.pid, signal.SIGKILL)
        other.wait()
        driver.until(lambda: driver.results["a"].over)
    assert driver.results["a"].failed is None


def test_what_an_idle_engine_remembers_gives_way_to_requests_elsewhere(drive: MakeDriver) -> None:
    share = MemoryShare(1 << 30, GROUP, explicit=True)
    idle, asked = drive(memory=share), drive(memory=share)
    idle.solo(job("first", "Something to remember. " * 20))
    remembered = idle.engine.gauges()["prefix_cache_bytes"]
    assert remembered > 0
    memory = asked.engine.memory
    memory.look_around()
    wanted = memory.estimate(len(asked.prompt(job("second")).ids), 10, 1, asked=True)
    memory.working_bytes += memory.for_jobs_bytes - wanted - int(remembered) // 2
    asked.submit_prepared(job("second"))
    asked.until(lambda: asked.engine.gauges()["waiting"] == 1)
    asked.until(lambda: not idle.engine.step() and asked.results["second"].over)
    assert asked.results["second"].failed is None
    assert idle.engine.gauges()["prefix_cache_bytes"] < remembered


def test_an_engine_beyond_its_share_sets_its_youngest_aside_and_loses_nothing(
    drive: MakeDriver,
) -> None:
    share = MemoryShare(1 << 30, GROUP, explicit=True)
    jobs = [
        job(str(i), f"Go on {i}", sampling=sampled(i), max_tokens=60, ignore_eos=True)
        for i in range(2)
    ]
    alone = [drive(prefix_cache_bytes=0).solo(made).tokens for made in jobs]
    driver = drive(prefix_cache_bytes=0, memory=share)
    driver.submit(*jobs)
    driver.until(lambda: driver.engine.gauges()["rows"] == 2)
    newcomer = Neighbours()
    newcomer.tell(Taken(GROUP, claimed_bytes=1 << 30))
    driver.until(lambda: driver.engine.gauges()["waiting"] == 1)
    newcomer.leave()
    driver.until(lambda: all(result.over for result in driver.results.values()))
    assert [driver.results[str(i)].tokens for i in range(2)] == alone

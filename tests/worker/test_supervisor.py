"""The supervisor's own life: told to stop at any moment, left alone, asked for fresh engines."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest

from scripts.launch.tiers import children
from tests.processes import ROOT, Tier, answer_text, serving
from tests.scripted import words
from tests.waiting import await_condition, free_port

SCRIPTED = ("--engine", "scripted", "--max-concurrency", "8")


def test_a_worker_told_to_stop_while_its_engine_starts_ends() -> None:
    for _ in range(3):
        worker = Tier("worker", *SCRIPTED, "--gateway", f"tcp://127.0.0.1:{free_port()}")
        await_condition(partial(children, worker.process.pid), "the engine's start")
        worker.process.send_signal(signal.SIGTERM)
        try:
            assert worker.process.wait(10) == 0
        finally:
            worker.stop()


@pytest.mark.parametrize(
    "command",
    [
        ("worker", *SCRIPTED, "--gateway", "tcp://127.0.0.1:{port}"),
        ("gateway", "--host", "127.0.0.1", "--port", "{port}", "--bind", "tcp://127.0.0.1:*"),
    ],
    ids=["worker", "gateway"],
)
def test_a_tier_whose_launcher_is_killed_ends(command: tuple[str, ...], tmp_path: Path) -> None:
    flags = [flag.format(port=free_port()) for flag in command]
    log = tmp_path / "log"
    with log.open("wb") as written:
        launcher = subprocess.Popen(
            ["sh", "-c", '"$@" & echo $!; wait', "sh", sys.executable, "-m", *flags],
            cwd=ROOT,
            env={**os.environ, "HONCHO_PROCESS_NAME": "tier.1"},
            stdout=subprocess.PIPE,
            stderr=written,
        )
        assert launcher.stdout is not None
        tier = int(launcher.stdout.readline())
    try:
        # Its children, or its first line, show that it knows its parent by now.
        await_condition(lambda: children(tier) or log.read_text(), "the tier's start")
        launcher.kill()
        launcher.wait()
        await_condition(lambda: not _lives(tier), "the tier's end")
    finally:
        launcher.stdout.close()
        if _lives(tier):
            os.kill(tier, signal.SIGKILL)
    assert "what started" in log.read_text()


def _lives(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


def test_an_engine_is_renewed_after_so_many_requests_and_nothing_is_lost() -> None:
    flags = (*SCRIPTED, "--recycle-after-requests", "2")
    with serving(worker_flags=flags) as service:
        seen = set()
        for _ in range(6):
            # Between two engines the worker is on lease, and has no process.
            pid = await_condition(lambda: service.worker_states()[0].get("pid"), "an engine")
            service.await_ready(1)
            seen.add(pid)
            assert answer_text(service.script(tokens=5)) == words(5)
        assert len(seen) >= 2
        assert "to stay fresh" in service.workers[0].output()


class OnFullDisk(Tier):
    """A tier that cannot write a byte to any file."""

    def command(self, module: str, flags: tuple[str, ...]) -> list[str]:
        return ["sh", "-c", 'ulimit -f 0; exec "$@"', "sh", *super().command(module, flags)]


def test_a_worker_on_a_full_disk_serves_and_survives_its_engine(tmp_path: Path) -> None:
    heard, said = os.pipe()
    with serving(workers=0) as service:
        flags = (*SCRIPTED, "--gateway", service.worker_endpoint)
        service.workers.append(OnFullDisk("worker", *flags, stderr=said))
        os.close(said)
        service.await_ready(1)
        once = str(tmp_path / "struck")
        answer = service.script(tokens=20, fault="die", at=10, once=once)
        assert answer_text(answer) == words(20)
    log = os.read(heard, 65536).decode()
    os.close(heard)
    assert "no file for the runs" in log
    assert "Traceback" not in log

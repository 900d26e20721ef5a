"""`scripts/serve`'s start: both tiers through honcho, as a person at a terminal has them."""

from __future__ import annotations

import json
import os
import shlex
import signal
import socket
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from gateway.settings import Settings
from scripts.launch.flags import read_flags
from scripts.launch.ports import taken_ports
from scripts.launch.serve import STOPPED, complete
from scripts.launch.tiers import children, exit_code
from shared.environment_file import EnvironmentFile
from tests.processes import Tier, answer_text
from tests.scripted import scripted, words
from tests.waiting import await_condition, free_port
from worker.settings import BUILT_IN_MODEL


class Start(Tier):
    """One `scripts/serve` with the scripted engine, on ports of its own."""

    def __init__(self, *flags: str) -> None:
        self.port, self.workers_port = free_port(), free_port()
        ports = ("--port", str(self.port), "--bind", f"tcp://127.0.0.1:{self.workers_port}")
        # This machine is not reached through a proxy, whatever the environment says.
        proxy = {"http_proxy": f"http://127.0.0.1:{free_port()}", "no_proxy": ""}
        words = ("--engine", "scripted", *ports, *flags)
        super().__init__("scripts.launch.serve", *words, environment=proxy)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def await_ready(self) -> None:
        def said() -> bool:
            assert self.process.poll() is None, self.output()
            return "Ready after" in self.output()

        try:
            await_condition(said, "the ready line")
        except AssertionError:
            print(self.output())
            raise

    def ctrl_c(self) -> None:
        """What a terminal does: the signal goes to every process of its foreground group."""
        os.killpg(self.process.pid, signal.SIGINT)


@pytest.fixture
def started() -> Iterator[Start]:
    start = Start()
    try:
        start.await_ready()
        yield start
    finally:
        start.stop()
        print(start.output())


def ask_slowly(started: Start, answers: list[str]) -> threading.Thread:
    """Begin an answer of two seconds; return when it runs, on a thread that awaits its end."""

    def ask() -> None:
        body = scripted(tokens=20, delay_s=0.1)
        try:
            answer = httpx.post(f"{started.url}/v1/chat/completions", json=body, timeout=30)
            answers.append(answer_text(answer))
        except (httpx.TransportError, AssertionError) as error:
            answers.append(f"{type(error).__name__}: {error}")

    def runs() -> bool:
        stats = httpx.get(f"{started.url}/v1/queue/stats").json()
        return any(worker["active"] for worker in stats["workers"])

    thread = threading.Thread(target=ask)
    thread.start()
    await_condition(runs, "the request runs")
    return thread


def test_ctrl_c_once_lets_what_runs_come_to_its_end(started: Start) -> None:
    answers: list[str] = []
    asking = ask_slowly(started, answers)
    started.ctrl_c()
    asking.join(30)
    assert answers == [words(20)]
    assert started.process.wait(30) == 128 + signal.SIGINT


def test_ctrl_c_twice_stops_at_once(started: Start) -> None:
    answers: list[str] = []
    asking = ask_slowly(started, answers)
    started.ctrl_c()
    await_condition(lambda: "Ctrl-C again" in started.output(), "the first is understood")
    started.ctrl_c()
    asking.join(30)
    assert answers != [words(20)]
    started.process.wait(30)


def begun(start: Start) -> list[int]:
    """The processes below a start: honcho, those that hold the tiers, and the tiers."""
    found = [start.process.pid]
    for pid in found:
        found += children(pid)
    return found[1:]


@pytest.mark.parametrize(
    ("processes", "number"),
    [(1, signal.SIGTERM), (2, signal.SIGINT), (3, signal.SIGTERM)],
    ids=["honcho", "holder", "tier"],
)
def test_told_to_stop_in_the_first_moments_it_stops(processes: int, number: int) -> None:
    start = Start()
    try:
        await_condition(lambda: len(begun(start)) >= processes, "what it is told after")
        os.killpg(start.process.pid, number)
        assert start.process.wait(12) == 128 + number
        assert "Traceback" not in start.output()
    finally:
        start.stop()


def test_a_closed_terminal_stops_all_and_lets_what_runs_come_to_its_end(started: Start) -> None:
    answers: list[str] = []
    processes = begun(started)
    asking = ask_slowly(started, answers)
    os.killpg(started.process.pid, signal.SIGHUP)
    asking.join(30)
    assert answers == [words(20)]
    assert started.process.wait(30) == 128 + signal.SIGHUP
    await_condition(lambda: not any(map(is_alive, processes)), "nothing is left")


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except ProcessLookupError:
        return False
    except FileNotFoundError:
        return not Path("/proc/self").exists()
    # Whose parent has died is buried by the first process, where that one does so.
    return state != "Z"


def test_killed_without_a_word_it_leaves_nothing_behind(started: Start) -> None:
    processes = begun(started)
    os.killpg(started.process.pid, signal.SIGKILL)
    await_condition(lambda: not any(map(is_alive, processes)), "nothing is left")


def test_a_killed_honcho_leaves_no_tier_behind(started: Start) -> None:
    honcho, *below = begun(started)
    os.kill(honcho, signal.SIGKILL)
    assert started.process.wait(30) == 128 + signal.SIGKILL
    await_condition(lambda: not any(map(is_alive, below)), "nothing is left")


def test_the_ready_line_is_true_and_a_killed_engine_takes_nothing_else_down(started: Start) -> None:
    line = next(line for line in started.output().splitlines() if "Ready after" in line)
    assert started.url in line
    answer = httpx.post(f"{started.url}/v1/chat/completions", json=scripted(tokens=2), timeout=30)
    assert answer_text(answer) == words(2)
    worker = httpx.get(f"{started.url}/v1/queue/stats").json()["workers"][0]
    os.kill(worker["pid"], signal.SIGKILL)

    def serves_anew() -> bool:
        workers = httpx.get(f"{started.url}/v1/queue/stats").json()["workers"]
        return any(w["state"] == "ready" and w["pid"] != worker["pid"] for w in workers)

    await_condition(serves_anew, "the worker serves again")
    assert started.process.poll() is None


def test_the_ready_line_names_a_model_where_there_are_several(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).symlink_to(BUILT_IN_MODEL)
    start = Start("--models-dir", str(tmp_path))
    try:
        start.await_ready()
        said = start.output()
        assert f"1 worker with the models of {tmp_path}." in said
        line = next(line for line in said.splitlines() if "Ready after" in line)
        command = shlex.split(line.partition("try: ")[2])
        answer = subprocess.run(command, capture_output=True, text=True, check=True)
        assert json.loads(answer.stdout)["model"] == "one"
    finally:
        start.stop()
        print(start.output())


@pytest.mark.parametrize(("code", "said"), [(0, 0), (2, 2), (-15, 143), (256 - 9, 137)])
def test_the_exit_code_is_what_a_shell_says(code: int, said: int) -> None:
    assert exit_code(code) == said


@pytest.mark.parametrize("flag", ["--port", "--bind"])
def test_a_taken_port_is_named_before_anything_starts(flag: str) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        value = str(port) if flag == "--port" else f"tcp://127.0.0.1:{port}"
        start = Start("--host", "127.0.0.1", flag, value)
        assert start.process.wait(30) == 2
        said = start.output()
        start.stop()
    assert str(port) in said
    assert flag in said
    assert "Ready" not in said
    assert "started" not in said


def test_a_port_is_taken_that_another_address_of_it_answers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As on a Mac, where every address can be bound beside one of them."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        settings = Settings(host="0.0.0.0", port=port, bind=(f"tcp://127.0.0.1:{free_port()}",))
        monkeypatch.setattr(socket.socket, "bind", lambda self, address: None)
        (said,) = taken_ports(settings)
        assert f"port {port} is taken" in said
    assert list(taken_ports(settings)) == []


def test_another_machines_address_is_not_taken_and_the_end_points_at_its_reason() -> None:
    start = Start("--host", "192.0.2.1", "--drain-timeout", "0")
    assert start.process.wait(30) == 2
    start.stop()
    *_, reason, said = [
        line for line in start.output().splitlines() if "192.0.2.1" in line or STOPPED in line
    ]
    assert "cannot listen" in reason and "taken" not in start.output()
    assert said.endswith(STOPPED)


def test_workers_go_where_the_gateway_binds(tmp_path: Path) -> None:
    def goes_to(*binds: str) -> str:
        flags = read_flags([word for bind in binds for word in ("--bind", bind)], tmp_path)
        return complete(flags, EnvironmentFile())["WORKER_GATEWAY"]

    assert goes_to() == "tcp://127.0.0.1:5555"
    assert goes_to("tcp://127.0.0.1:7000") == "tcp://127.0.0.1:7000"
    assert goes_to("ipc:///tmp/x") == "ipc:///tmp/x"
    for bind in ("tcp://0.0.0.0:7000", "tcp://*:7000"):
        flags = read_flags(["--insecure-bind", "--bind", bind], tmp_path)
        assert complete(flags, EnvironmentFile())["WORKER_GATEWAY"] == "tcp://127.0.0.1:7000"
    flags = read_flags(
        ["--bind", "tcp://127.0.0.1:7000", "--gateway", "tcp://127.0.0.1:7001"], tmp_path
    )
    assert complete(flags, EnvironmentFile())["WORKER_GATEWAY"] == "tcp://127.0.0.1:7001"


def test_flags_come_before_the_file_and_the_file_before_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = EnvironmentFile({"GATEWAY_PORT": "9001", "GATEWAY_QUEUE_SIZE": "7"})
    monkeypatch.setenv("GATEWAY_QUEUE_SIZE", "8")
    monkeypatch.setenv("GATEWAY_HOST", "127.0.0.1")
    environment = complete(read_flags(["--port", "9002"], tmp_path), file)
    assert environment["GATEWAY_PORT"] == "9002"
    assert environment["GATEWAY_QUEUE_SIZE"] == "7"
    assert environment["GATEWAY_HOST"] == "127.0.0.1"

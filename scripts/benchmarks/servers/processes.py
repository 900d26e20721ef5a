"""Servers under test: started, awaited, weighed and stopped."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import httpx
import psutil

ROOT = Path(__file__).resolve().parents[3]
DEMO_MODEL = ROOT / "worker" / "demo_model"
START_TIMEOUT_S = 300.0
LOOK_EVERY_S = 0.05
NOTHING: Mapping[str, str] = MappingProxyType({})


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Tier:
    """A server's process and all that it starts."""

    def __init__(
        self, name: str, command: Sequence[str], environment: Mapping[str, str] = NOTHING
    ) -> None:
        self.name = name
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as this
        self._process = subprocess.Popen(
            command,
            cwd=ROOT,
            env={**os.environ, **environment},
            stdout=self._log,
            stderr=self._log,
            start_new_session=True,
        )

    def cpu_s(self) -> float:
        """CPU seconds used so far."""
        times = [process.cpu_times() for process in self.family()]
        return float(sum(spent.user + spent.system for spent in times))

    def resident_bytes(self) -> int:
        return sum(process.memory_info().rss for process in self.family())

    def await_answer(self, url: str) -> None:
        """Return when `url` answers with a success.

        Raises:
            RuntimeError: the process has ended, or it takes too long.
        """
        until = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < until and self._process.poll() is None:
            with contextlib.suppress(httpx.TransportError):
                if httpx.get(url, timeout=5, trust_env=False).is_success:
                    return
            time.sleep(LOOK_EVERY_S)
        self._log.seek(0)
        output = self._log.read().decode(errors="replace")[-4000:]
        raise RuntimeError(f"{self.name} does not answer at {url}:\n{output}")

    def stop(self) -> None:
        with contextlib.suppress(ProcessLookupError, subprocess.TimeoutExpired):
            self._process.terminate()
            self._process.wait(10)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._log.close()

    def family(self) -> list[psutil.Process]:
        """The process and all that descend from it."""
        head = psutil.Process(self._process.pid)
        return [head, *head.children(recursive=True)]


@dataclass(frozen=True)
class Server:
    """One that is up.

    Attributes:
        url: without a path.
        tiers: its processes, by name.
        ready_s: how long its start took.
        model: what requests must name, None where they need not.
    """

    url: str
    tiers: Mapping[str, Tier]
    ready_s: float
    model: str | None = None

    def get(self, path: str) -> httpx.Response:
        return httpx.get(self.url + path, timeout=30, trust_env=False)


@contextlib.contextmanager
def serving(
    gateway_flags: Sequence[str],
    worker_flags: Sequence[str],
    worker_environment: Mapping[str, str] = NOTHING,
) -> Iterator[Server]:
    """Our gateway and a worker on free ports, ready."""
    began = time.monotonic()
    http, wire = free_port(), f"tcp://127.0.0.1:{free_port()}"
    url = f"http://127.0.0.1:{http}"
    python = [sys.executable, "-m"]
    bound = ["--host", "127.0.0.1", "--port", str(http), "--bind", wire]
    with contextlib.ExitStack() as stack:
        gateway = Tier("gateway", [*python, "gateway", *bound, *gateway_flags])
        stack.callback(gateway.stop)
        command = [*python, "worker", "--gateway", wire, *worker_flags]
        worker = Tier("worker", command, worker_environment)
        stack.callback(worker.stop)
        gateway.await_answer(f"{url}/ready")
        tiers = {tier.name: tier for tier in (gateway, worker)}
        yield Server(url, tiers, time.monotonic() - began)


@contextlib.contextmanager
def started(
    name: str,
    command: Sequence[str],
    port: int,
    ready_path: str,
    environment: Mapping[str, str] = NOTHING,
    model: str | None = None,
) -> Iterator[Server]:
    """Any other server that listens on that port, ready."""
    began = time.monotonic()
    url = f"http://127.0.0.1:{port}"
    tier = Tier(name, command, environment)
    try:
        tier.await_answer(url + ready_path)
        yield Server(url, {name: tier}, time.monotonic() - began, model)
    finally:
        tier.stop()


@contextlib.contextmanager
def cpu_spent(*servers: Server) -> Iterator[dict[str, float]]:
    """CPU seconds by process, filled in when the block has ended."""
    tiers = [tier for server in servers for tier in server.tiers.values()]
    before = [tier.cpu_s() for tier in tiers]
    spent: dict[str, float] = {}
    yield spent
    for tier, was in zip(tiers, before, strict=True):
        spent[tier.name] = tier.cpu_s() - was

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
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import psutil

ROOT = Path(__file__).resolve().parent.parent.parent
PATIENCE_S = 300.0
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
        return sum(spent.user + spent.system for spent in times)

    def resident_bytes(self) -> int:
        return sum(process.memory_info().rss for process in self.family())

    def await_answer(self, url: str) -> None:
        """Return when `url` answers with a success.

        Raises:
            RuntimeError: the process has ended, or it takes too long.
        """
        until = time.monotonic() + PATIENCE_S
        while time.monotonic() < until and self._process.poll() is None:
            with contextlib.suppress(OSError), urllib.request.urlopen(url, timeout=5):
                return
            time.sleep(LOOK_EVERY_S)
        raise RuntimeError(f"{self.name} does not answer at {url}:\n{self._output()}")

    def stop(self) -> None:
        with contextlib.suppress(ProcessLookupError, subprocess.TimeoutExpired):
            self._process.terminate()
            self._process.wait(10)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def family(self) -> list[psutil.Process]:
        """The process and all that descend from it."""
        head = psutil.Process(self._process.pid)
        return [head, *head.children(recursive=True)]

    def _output(self) -> str:
        self._log.seek(0)
        return self._log.read().decode(errors="replace")[-4000:]


@dataclass(frozen=True)
class Service:
    """Our two tiers. `url` has no path."""

    url: str
    gateway: Tier
    worker: Tier


@contextlib.contextmanager
def serving(
    gateway_flags: Sequence[str],
    worker_flags: Sequence[str],
    worker_environment: Mapping[str, str] = NOTHING,
) -> Iterator[Service]:
    """A gateway and a worker on free ports, ready."""
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
        yield Service(url, gateway, worker)


@contextlib.contextmanager
def started(
    name: str, command: Sequence[str], ready_url: str, environment: Mapping[str, str] = NOTHING
) -> Iterator[Tier]:
    """Any other server, ready."""
    tier = Tier(name, command, environment)
    try:
        tier.await_answer(ready_url)
        yield tier
    finally:
        tier.stop()

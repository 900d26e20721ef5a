"""Real gateways and workers for tests: started on free ports, awaited by condition, stopped."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import httpx

from shared.environment_file import HONCHO_PROCESS
from tests.scripted import scripted
from tests.waiting import TIMEOUT_S, await_condition, free_port

ROOT = Path(__file__).resolve().parent.parent


class Tier:
    """One `python -m gateway` or `python -m worker`; its log is kept for failures.

    It reads no `.env`, as under honcho: a developer's own is not the tests'.

    Args:
        stderr: a descriptor that its log goes to instead.
        folder: what it runs in.
    """

    def __init__(
        self,
        module: str,
        *flags: str,
        environment: dict[str, str] | None = None,
        stderr: int | None = None,
        folder: Path = ROOT,
    ) -> None:
        self.log: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as this
        self._said = b""
        self.process = subprocess.Popen(
            self.command(module, flags),
            cwd=folder,
            stdout=self.log,
            stderr=self.log if stderr is None else stderr,
            env={**os.environ, HONCHO_PROCESS: "worker", **(environment or {})},
            start_new_session=True,
        )

    def command(self, module: str, flags: tuple[str, ...]) -> list[str]:
        return [sys.executable, "-m", module, *flags]

    def output(self) -> str:
        """What it has said so far; after its end, all it said."""
        if not self.log.closed:
            descriptor = self.log.fileno()
            # Not by seeking: the tier writes where this side's file position is.
            self._said = os.pread(descriptor, os.fstat(descriptor).st_size, 0)
        return self._said.decode(errors="replace")

    def stop(self, timeout_s: float = 15.0) -> int:
        """SIGTERM, then SIGKILL to the whole group. Returns the exit code."""
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(timeout_s)
            except subprocess.TimeoutExpired:
                pass
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        code = self.process.wait()
        self.output()
        self.log.close()
        return code


@dataclass
class Service:
    """A gateway with its workers, and clients for it."""

    gateway: Tier
    url: str
    worker_endpoint: str
    workers: list[Tier] = field(default_factory=list)
    worker_flags: tuple[str, ...] = ()
    client: httpx.Client = field(default_factory=lambda: httpx.Client(timeout=TIMEOUT_S))

    def ask(self, body: dict[str, Any], path: str = "/v1/chat/completions") -> httpx.Response:
        return self.client.post(self.url + path, json=body)

    def script(self, stream: bool = False, **script: Any) -> httpx.Response:
        """Ask the scripted engine."""
        return self.ask(scripted(stream=stream, **script))

    def get(self, path: str) -> Any:
        return self.client.get(self.url + path).json()

    def listens(self) -> bool:
        try:
            return self.client.get(f"{self.url}/health").is_success
        except httpx.TransportError:
            return False

    def worker_states(self) -> list[dict[str, Any]]:
        try:
            workers: list[dict[str, Any]] = self.get("/v1/queue/stats")["workers"]
        except httpx.TransportError:
            return []
        return workers

    def await_ready(self, workers: int) -> None:
        def enough() -> bool:
            for tier in [self.gateway, *self.workers]:
                if tier.process.poll() is not None:
                    raise AssertionError(f"a tier has ended:\n{tier.output()}")
            if workers == 0:
                return self.listens()
            ready = [w for w in self.worker_states() if w["state"] == "ready"]
            return len(ready) >= workers

        await_condition(enough, f"{workers} workers ready")

    def add_worker(self, *flags: str) -> Tier:
        tier = Tier("worker", "--gateway", self.worker_endpoint, *self.worker_flags, *flags)
        self.workers.append(tier)
        return tier

    def start_gateway_anew(self) -> None:
        """A new gateway on the same ports, where one was stopped or killed."""
        self.gateway.stop()
        port = self.url.rpartition(":")[2]
        flags = ("--host", "127.0.0.1", "--port", port, "--bind", self.worker_endpoint)
        self.gateway = Tier("gateway", *flags)

    def stop(self) -> None:
        for tier in [*self.workers, self.gateway]:
            tier.process.terminate() if tier.process.poll() is None else None
        for tier in [*self.workers, self.gateway]:
            tier.stop()
        self.client.close()


def answer_text(response: httpx.Response) -> str:
    assert response.status_code == 200, response.text
    text: str = response.json()["choices"][0]["message"]["content"]
    return text


@contextlib.contextmanager
def serving(
    workers: int = 1,
    gateway_flags: tuple[str, ...] = (),
    worker_flags: tuple[str, ...] = ("--engine", "scripted", "--max-concurrency", "8"),
) -> Iterator[Service]:
    """A gateway on free ports with so many workers, all ready."""
    http, zmq = free_port(), free_port()
    endpoint = f"tcp://127.0.0.1:{zmq}"
    base = ("--host", "127.0.0.1", "--port", str(http), "--bind", endpoint)
    gateway = Tier("gateway", *base, *gateway_flags)
    service = Service(gateway, f"http://127.0.0.1:{http}", endpoint, worker_flags=worker_flags)
    try:
        for _ in range(workers):
            service.add_worker()
        service.await_ready(workers)
        yield service
    except BaseException:
        for tier in [gateway, *service.workers]:
            print(tier.output()[-4000:], file=sys.stderr)
        raise
    finally:
        service.stop()

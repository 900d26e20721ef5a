"""Gateway and workers on two hosts: cables pulled, strangers at the door.

The hosts are network namespaces on this machine, joined by a virtual cable. Needs Linux, root and
iproute2.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import pytest

from tests.faults.test_fleet import SECONDS, assert_drained, load
from tests.processes import ROOT, Service, Tier
from tests.waiting import await_condition, free_port

T = TypeVar("T")

pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or os.geteuid() != 0 or not shutil.which("ip"),
    reason="network namespaces need Linux, root and iproute2",
)

GATEWAY_ADDRESS, WORKER_ADDRESS = "10.213.0.1", "10.213.0.2"
CUT_S = 10.0 if SECONDS > 30 else 5.0


def run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True)


class Cable:
    """Two namespaces and the veth pair between them."""

    def __init__(self) -> None:
        self.gateway_host, self.worker_host = f"gw{os.getpid()}", f"wk{os.getpid()}"
        ends = (self.gateway_host, GATEWAY_ADDRESS), (self.worker_host, WORKER_ADDRESS)
        for host, _ in ends:
            run("ip", "netns", "add", host)
        a, b = (f"{host}v" for host, _ in ends)
        run("ip", "link", "add", a, "type", "veth", "peer", "name", b)
        for (host, address), end in zip(ends, (a, b), strict=True):
            run("ip", "link", "set", end, "netns", host)
            run("ip", "-n", host, "addr", "add", f"{address}/24", "dev", end)
            run("ip", "-n", host, "link", "set", end, "up")
            run("ip", "-n", host, "link", "set", "lo", "up")
        self._end = b

    def pull(self) -> None:
        run("ip", "-n", self.worker_host, "link", "set", self._end, "down")

    def plug(self) -> None:
        run("ip", "-n", self.worker_host, "link", "set", self._end, "up")

    def remove(self) -> None:
        for host in (self.gateway_host, self.worker_host):
            run("ip", "netns", "del", host)


class HostTier(Tier):
    """A tier on one of the hosts."""

    def __init__(self, host: str, module: str, *flags: str) -> None:
        self.prefix = ("ip", "netns", "exec", host)
        super().__init__(module, *flags)

    def command(self, module: str, flags: tuple[str, ...]) -> list[str]:
        return [*self.prefix, *super().command(module, flags)]


def on_host(host: str, function: Callable[[], T]) -> T:
    """Call `function` in a thread whose sockets belong to that host."""

    def enter() -> None:
        with open(f"/run/netns/{host}") as namespace:
            if ctypes.CDLL(None, use_errno=True).setns(namespace.fileno(), 0) != 0:
                raise OSError(ctypes.get_errno(), "setns")

    with ThreadPoolExecutor(1, initializer=enter) as pool:
        return pool.submit(function).result()


@pytest.fixture
def cable() -> Iterator[Cable]:
    made = Cable()
    try:
        yield made
    finally:
        made.remove()


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    folder = tmp_path / "keys"
    command = [sys.executable, "-m", "scripts.keys", "near", "--folder", str(folder)]
    subprocess.run([*command], cwd=ROOT, check=True, capture_output=True)
    return folder


@contextlib.contextmanager
def two_hosts(cable: Cable, keys: Path, workers: int) -> Iterator[Service]:
    endpoint = f"tcp://{GATEWAY_ADDRESS}:5555"
    port = free_port()
    gateway = HostTier(
        cable.gateway_host,
        "gateway",
        *("--host", "127.0.0.1", "--port", str(port), "--bind", endpoint),
        *("--curve-key", str(keys / "gateway.key_secret")),
        *("--authorized-workers", str(keys / "authorized")),
    )
    service = Service(gateway, f"http://127.0.0.1:{port}", endpoint)
    worker = ("--engine", "scripted", "--max-concurrency", "16", "--max-streams", "16")
    mine = ("--worker-key", str(keys / "near.key_secret"), "--gateway-key")
    for _ in range(workers):
        flags = (*worker, "--gateway", endpoint, *mine, str(keys / "gateway.key"))
        service.workers.append(HostTier(cable.worker_host, "worker", *flags))
    try:
        on_host(cable.gateway_host, lambda: service.await_ready(workers))
        yield service
    except BaseException:
        for tier in [gateway, *service.workers]:
            print(tier.output()[-3000:], file=sys.stderr)
        raise
    finally:
        service.stop()


async def answers(answered: list[int], enough: int) -> None:
    await asyncio.to_thread(await_condition, lambda: answered[0] >= enough, f"{enough} answers")


def test_a_pulled_cable_delays_answers_and_breaks_none(cable: Cable, keys: Path) -> None:
    async def under_load(service: Service) -> int:
        async with load(service.url, seed=5) as answered:
            await answers(answered, 8)
            await asyncio.to_thread(cable.pull)
            await asyncio.sleep(CUT_S)
            await asyncio.to_thread(cable.plug)
            await answers(answered, answered[0] + 32)
        return answered[0]

    with two_hosts(cable, keys, workers=2) as service:

        def storm() -> None:
            assert asyncio.run(under_load(service)) > 32
            assert_drained(service)

        on_host(cable.gateway_host, storm)


def test_a_stranger_without_a_known_key_is_refused_and_logged(
    cable: Cable, keys: Path, tmp_path: Path
) -> None:
    with two_hosts(cable, keys, workers=1) as service:
        strange = tmp_path / "strange"
        command = [sys.executable, "-m", "scripts.keys", "near", "--folder", str(strange)]
        subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
        endpoint = ("--engine", "scripted", "--gateway", service.worker_endpoint)
        wrong = ("--worker-key", str(strange / "near.key_secret"))
        known = ("--gateway-key", str(keys / "gateway.key"))
        service.workers.append(HostTier(cable.worker_host, "worker", *endpoint, *wrong, *known))
        service.workers.append(HostTier(cable.worker_host, "worker", *endpoint))
        await_condition(lambda: "refused a worker" in service.gateway.output(), "it is logged")
        states = on_host(cable.gateway_host, service.worker_states)
        assert len(states) == 1

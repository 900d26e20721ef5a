"""A worker finds its gateway, whatever stood at the address meanwhile."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from tests.processes import ROOT, Tier
from tests.waiting import await_condition, free_port

StandIn = Callable[[int, Path], AbstractContextManager[Callable[[], bool]]]
"""Something that listens at a port; says whether the worker has met it."""


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    folder = tmp_path / "keys"
    command = [sys.executable, "-m", "scripts.keys", "near", "--folder", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    return folder


def gateway(port: int, *flags: str) -> Tier:
    here = ("--host", "127.0.0.1", "--port", str(free_port()))
    return Tier("gateway", *here, "--bind", f"tcp://127.0.0.1:{port}", *flags)


@contextlib.contextmanager
def garbage(port: int, keys: Path) -> Iterator[Callable[[], bool]]:
    met = threading.Event()
    with socket.create_server(("127.0.0.1", port)) as listener:

        def answer() -> None:
            with contextlib.suppress(OSError):
                while True:
                    with listener.accept()[0] as connection:
                        connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n" * 10)
                        met.set()

        answering = threading.Thread(target=answer)
        answering.start()
        yield met.is_set
        listener.shutdown(socket.SHUT_RDWR)
        answering.join()


@contextlib.contextmanager
def without_keys(port: int, keys: Path) -> Iterator[Callable[[], bool]]:
    tier = gateway(port)
    yield lambda: "uses keys and this gateway has none" in tier.output()
    tier.stop()


@contextlib.contextmanager
def not_authorized_yet(port: int, keys: Path) -> Iterator[Callable[[], bool]]:
    nobody = keys / "nobody"
    nobody.mkdir()
    curve = ("--curve-key", str(keys / "gateway.key_secret"))
    tier = gateway(port, *curve, "--authorized-workers", str(nobody))
    yield lambda: "refused a worker" in tier.output()
    tier.stop()


@pytest.mark.process
@pytest.mark.parametrize("stand_in", [garbage, without_keys, not_authorized_yet])
def test_a_worker_finds_its_gateway_after_others(stand_in: StandIn, keys: Path) -> None:
    port = free_port()
    mine = ("--worker-key", str(keys / "near.key_secret"))
    theirs = ("--gateway-key", str(keys / "gateway.key"))
    with stand_in(port, keys) as has_met:
        worker = Tier(
            "worker", "--engine", "scripted", "--gateway", f"tcp://127.0.0.1:{port}", *mine, *theirs
        )
        await_condition(has_met, "the worker meets it", 20)
    curve = ("--curve-key", str(keys / "gateway.key_secret"))
    right = gateway(port, *curve, "--authorized-workers", str(keys / "authorized"))
    try:
        await_condition(lambda: "connected (ready)" in right.output(), "the worker comes", 20)
    except AssertionError:
        print(worker.output(), right.output(), file=sys.stderr)
        raise
    finally:
        worker.stop()
        right.stop()

"""Where the tiers can meet: IPv4, IPv6, a path; and that nobody's path is taken away."""

from __future__ import annotations

import contextlib
import errno
import socket as unix
import tempfile
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import zmq

from shared import sockets
from shared.sockets import bind, connect, make_dealer, make_router, receive, send

WAIT_MS = 5_000


@pytest.fixture
def folder() -> Iterator[str]:
    """With a name short enough for a socket's path, which pytest's own is not everywhere."""
    with tempfile.TemporaryDirectory(dir="/tmp") as short:
        yield short


@pytest.mark.parametrize("endpoint", ["tcp://127.0.0.1:*", "tcp://[::1]:*", "ipc://{folder}/port"])
def test_the_tiers_meet(endpoint: str, folder: str) -> None:
    with (
        zmq.Context() as context,
        make_router(context, None) as router,
        make_dealer(context, b"worker") as dealer,
    ):
        connect(dealer, bind(router, endpoint.format(folder=folder)))
        assert dealer.poll(WAIT_MS, zmq.POLLOUT)
        send(dealer, [b"a", b"b"])
        assert router.poll(WAIT_MS)
        assert receive(router) == [b"worker", b"a", b"b"]


def test_of_two_who_come_to_a_path_at_once_one_listens_there(
    folder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    endpoint = f"ipc://{folder}/port"
    both = threading.Barrier(2)
    look = sockets._is_answered  # noqa: SLF001

    def look_together(path: str) -> bool:
        is_answered = look(path)
        with contextlib.suppress(threading.BrokenBarrierError):
            both.wait(0.5)
        return is_answered

    def listen(router: zmq.Socket[bytes]) -> str | int | None:
        try:
            return bind(router, endpoint)
        except zmq.ZMQError as error:
            return error.errno

    monkeypatch.setattr(sockets, "_is_answered", look_together)
    with (
        zmq.Context() as context,
        make_router(context, None) as first,
        make_router(context, None) as second,
        ThreadPoolExecutor(2) as threads,
    ):
        assert set(threads.map(listen, (first, second))) == {endpoint, errno.EADDRINUSE}


def test_one_gateway_may_listen_on_both_kinds_of_address() -> None:
    with zmq.Context() as context, make_router(context, None) as router:
        endpoints = [bind(router, endpoint) for endpoint in ("tcp://[::1]:*", "tcp://127.0.0.1:*")]
        assert ["[" in endpoint for endpoint in endpoints] == [True, False]


def test_a_path_is_not_taken_from_whoever_listens_there(folder: str) -> None:
    endpoint = f"ipc://{folder}/port"
    with (
        zmq.Context() as context,
        make_router(context, None) as first,
        make_router(context, None) as second,
    ):
        bind(first, endpoint)
        with pytest.raises(zmq.ZMQError) as taken:
            bind(second, endpoint)
        assert taken.value.errno == errno.EADDRINUSE


def test_a_path_that_a_dead_gateway_left_is_taken(folder: str) -> None:
    with unix.socket(unix.AF_UNIX) as dead:
        dead.bind(f"{folder}/port")
        dead.listen()
    with zmq.Context() as context, make_router(context, None) as router:
        assert bind(router, f"ipc://{folder}/port") == f"ipc://{folder}/port"


@pytest.mark.parametrize("linked", [False, True])
def test_a_file_at_a_path_is_not_deleted(folder: str, linked: bool) -> None:
    """libzmq would, whatever it is, to put its socket there."""
    path = Path(folder, "notes")
    path.write_text("mine")
    if linked:
        path = Path(folder, "link")
        path.symlink_to("notes")
    with (
        zmq.Context() as context,
        make_router(context, None) as router,
        pytest.raises(zmq.ZMQError) as taken,
    ):
        bind(router, f"ipc://{path}")
    assert taken.value.errno == errno.EEXIST
    assert path.read_text() == "mine"

"""Where HTTP clients connect to, and how many may."""

from __future__ import annotations

import contextlib
import errno
import logging
import resource
import socket
from collections.abc import Iterator

import pytest

from gateway.http.listening import listen, url
from gateway.process import allow_connections, allow_descriptors
from shared.settings import SettingsError


@contextlib.contextmanager
def listening(host: str, port: int) -> Iterator[list[socket.socket]]:
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(listener) for listener in listen(host, port)]


def test_localhost_is_both_loopback_addresses() -> None:
    with listening("localhost", 0) as listeners:
        (port,) = {listener.getsockname()[1] for listener in listeners}
        assert [url(listener) for listener in listeners] == [
            f"http://127.0.0.1:{port}",
            f"http://[::1]:{port}",
        ]
        for address in ("127.0.0.1", "::1"):
            socket.create_connection((address, port)).close()


@pytest.mark.parametrize("missing", [socket.AF_INET, socket.AF_INET6])
def test_localhost_is_what_there_is(
    missing: socket.AddressFamily, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Socket(socket.socket):
        def bind(self, address: object) -> None:
            if self.family == missing:
                raise OSError(errno.EADDRNOTAVAIL, "Cannot assign requested address")
            super().bind(address)  # type: ignore[arg-type]

    monkeypatch.setattr("socket.socket", Socket)
    with listening("localhost", 0) as listeners:
        assert [listener.family for listener in listeners] != [missing]
        assert len(listeners) == 1


def test_a_port_taken_on_one_of_them_is_taken() -> None:
    with (
        listening("::1", 0) as (other,),
        pytest.raises(SettingsError, match="Address already in use"),
    ):
        listen("localhost", other.getsockname()[1])


def test_a_limit_that_cannot_be_raised_is_told(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(*_: object) -> None:
        raise ValueError("not allowed to raise maximum limit")

    monkeypatch.setattr(resource, "getrlimit", lambda _: (256, resource.RLIM_INFINITY))
    monkeypatch.setattr(resource, "setrlimit", refuse)
    with caplog.at_level(logging.WARNING):
        allow_descriptors(1280)
    assert "only 256 files" in caplog.text


@pytest.mark.parametrize(("files", "connections"), [(64, 32), (600, 344), (1280, 1024)])
def test_where_few_files_are_allowed_some_are_left_for_the_answers(
    files: int, connections: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (files, files))
    assert allow_connections(1024) == connections

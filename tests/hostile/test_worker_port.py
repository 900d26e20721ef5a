"""Strangers on the worker port: garbage, floods, halves and giants, on real sockets."""

from __future__ import annotations

import contextlib
import os
import secrets
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from functools import partial

import msgpack
import pytest
import zmq

from gateway.dispatch.core.liveness import MAX_SESSIONS
from shared.messages import Heartbeat, Hello, Identify, Ping, Submit
from shared.wire import VERSION
from tests.hostile.strangers import memory_bytes, stranger
from tests.processes import Service, answer_text, serving
from tests.scripted import words
from tests.waiting import await_condition

MIB = 1 << 20
GROWTH_BYTES = 250 * MIB
HELLO = {"worker": "w", "models": ["m"], "slots": 1, "stream_slots": 1, "state": "loading"}

ZMTP_GREETING = b"\xff" + b"\0" * 8 + b"\x7f\x03\0" + b"NULL".ljust(20, b"\0") + b"\0" * 32
ZMTP_READY = b"\x04\x1c\x05READY\x0bSocket-Type\x00\x00\x00\x06DEALER"


@pytest.fixture(scope="module")
def service() -> Iterator[Service]:
    with serving(workers=1) as running:
        yield running


@pytest.fixture(autouse=True)
def everybody_else_is_served(service: Service) -> Iterator[None]:
    """An answer runs through the attack; memory comes back to where it was, or near it."""
    before = memory_bytes(service.gateway.process.pid)
    answers: list[str] = []
    ask = lambda: answers.append(answer_text(service.script(tokens=100, delay_s=0.01)))  # noqa: E731
    client = threading.Thread(target=ask)
    client.start()
    yield
    client.join()
    assert answers == [words(100)]
    assert answer_text(service.script(tokens=3)) == words(3)
    pid = service.gateway.process.pid
    await_condition(lambda: memory_bytes(pid) - before < GROWTH_BYTES, "memory is given back", 5)
    assert "Traceback" not in service.gateway.output()


def dropped(service: Service) -> float:
    lines = service.client.get(f"{service.url}/metrics").text.splitlines()
    return sum(
        float(line.rpartition(" ")[2])
        for line in lines
        if line.startswith("gateway_worker_port_dropped_messages_total{")
    )


def test_garbage_and_floods_are_counted(service: Service) -> None:
    before = dropped(service)
    header = bytes((VERSION, Hello.type_code))
    with stranger(service.worker_endpoint) as peer:
        for frames in (
            [b""],
            [b"GET / HTTP/1.1\r\n\r\n"],
            [b"\0\0", b""],
            [header],
            [header, b""],
            [header, msgpack.packb(HELLO), b"an attachment"],
            [bytes((99, 1)), msgpack.packb(HELLO)],
            [bytes((VERSION, Submit.type_code)), msgpack.packb({"job": 1})],
            [bytes((VERSION, Ping.type_code)), msgpack.packb({"gateway": "me"})],
            [header, b"\xdd\xff\xff\xff\xff"],
            [header, b"\x91" * 100_000],
            [b"x"] * 10_000,
        ):
            peer.send(*frames)
        for _ in range(20_000):
            peer.send(header, b"garbage")
        peer.claim(Heartbeat, state="ready")
        peer.hear(Identify)
    assert dropped(service) - before >= 20_000


def test_giants_are_not_taken_in(service: Service) -> None:
    with stranger(service.worker_endpoint) as peer:
        for size in (64 * MIB, 512 * MIB):
            peer.send(bytes((VERSION, Hello.type_code)), b"\0" * size)
        peer.claim(Heartbeat, state="ready", gauges={"x" * 900_000: 1.0})
    with stranger(service.worker_endpoint) as peer:
        for _ in range(60):
            peer.send(bytes((VERSION, Heartbeat.type_code)), b"\xc0" * 7 * MIB)
        peer.claim(Heartbeat, state="ready")
        peer.hear(Identify, timeout_s=30)


def test_a_heartbeat_that_claims_thousands_of_jobs(service: Service) -> None:
    before = dropped(service)
    with stranger(service.worker_endpoint) as peer:
        peer.claim(Hello, **HELLO)
        for _ in range(20):
            peer.claim(Heartbeat, state="loading", jobs=[f"{n}" for n in range(100_000)])
            peer.claim(Heartbeat, state="loading", jobs=["job"] * 2_000_000)
        await_condition(lambda: dropped(service) - before >= 20, "the longer ones are dropped")


def raw(service: Service) -> socket.socket:
    host, port = service.worker_endpoint.removeprefix("tcp://").split(":")
    return socket.create_connection((host, int(port)))


def test_half_messages_and_other_protocols(service: Service) -> None:
    beginnings = [
        b"",
        ZMTP_GREETING[:9],
        ZMTP_GREETING,
        ZMTP_GREETING + ZMTP_READY,
        ZMTP_GREETING + ZMTP_READY + b"\x01\x02ab",  # more frames are to come
        ZMTP_GREETING + ZMTP_READY + b"\x02" + (7 * MIB).to_bytes(8, "big") + b"x" * 1000,
        ZMTP_GREETING + ZMTP_READY + b"\x02" + b"\xff" * 8,
        b"GET / HTTP/1.1\r\nhost: x\r\n\r\n",
        b"\x16\x03\x01\x02\0\x01" + secrets.token_bytes(500),
        secrets.token_bytes(5000),
    ]
    for beginning in beginnings * 5:
        with raw(service) as connection:
            connection.sendall(beginning)


def test_a_full_pipe_a_ping_and_a_broken_connection(service: Service) -> None:
    """With a limit on messages that wait, libzmq aborts the process here."""
    message = b"\x01\x02ab\x00\x01c"
    ping = b"\x04\x0a\x04PING\x00\x14ctx"
    for number in range(30):
        with raw(service) as connection:
            connection.sendall(ZMTP_GREETING)
            connection.recv(64)
            connection.sendall(ZMTP_READY)
            await_condition(partial(connection.recv, 64), "the other side is ready")
            linger = struct.pack("ii", 1, 0)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            with contextlib.suppress(OSError):
                connection.sendall(message * 100 * number + (message * 20 + ping) * 50)
    assert service.gateway.process.poll() is None


def test_hundreds_of_silent_connections(service: Service) -> None:
    held = [raw(service) for _ in range(400)]
    for connection in held[::2]:
        connection.sendall(ZMTP_GREETING)
    assert answer_text(service.script(tokens=2)) == words(2)
    for connection in held:
        connection.close()


def test_strangers_by_the_hundred_are_bounded(service: Service) -> None:
    """Each under an id of its own, each a worker by its own account."""
    context = zmq.Context()
    context.set(zmq.MAX_SOCKETS, 4096)
    sockets = []
    for number in range(300):
        peer = context.socket(zmq.DEALER)
        peer.setsockopt(zmq.LINGER, 0)
        peer.setsockopt(zmq.ROUTING_ID, os.urandom(16))
        peer.connect(service.worker_endpoint)
        peer.send_multipart([bytes((VERSION, 1)), msgpack.packb({**HELLO, "worker": f"w{number}"})])
        sockets.append(peer)
    await_condition(lambda: len(service.worker_states()) == 301, "all are listed")
    assert len(service.worker_states()) <= MAX_SESSIONS
    for peer in sockets:
        peer.close()
    context.term()
    await_condition(lambda: len(service.worker_states()) == 1, "all are forgotten")


FLOODS: dict[str, Callable[[int], dict[str, object]]] = {
    "hellos": lambda n: {**HELLO, "worker": f"w{n}"},
    "the same hello": lambda n: HELLO,
}


@pytest.mark.parametrize("name", FLOODS)
def test_floods_of_hellos(service: Service, name: str) -> None:
    with stranger(service.worker_endpoint) as peer:
        for number in range(3000):
            peer.claim(Hello, **FLOODS[name](number))
        await_condition(lambda: len(service.worker_states()) >= 2, "it is listed", 10)
    await_condition(lambda: len(service.worker_states()) == 1, "it is forgotten", 10)

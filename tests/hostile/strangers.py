"""Peers of the worker port and of workers that keep no rule: plain sockets, unchecked messages."""

from __future__ import annotations

import contextlib
import secrets
import time
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeVar

import msgpack
import zmq

from shared import wire
from shared.messages import Deltas, Hello, Message, Submit, Welcome

TIMEOUT_S = 10.0

M = TypeVar("M")


class Stranger:
    """One end of a connection between the tiers; knows the frames and obeys nothing else."""

    def __init__(self, socket: zmq.Socket[bytes]) -> None:
        self.socket = socket
        self.heard: deque[Message] = deque()
        self.is_router = socket.type == zmq.ROUTER
        self.peer = b""

    def send(self, *frames: bytes) -> None:
        address = (self.peer,) if self.is_router else ()
        self.socket.send_multipart([*address, *frames])

    def say(self, message: Message, *attachments: bytes) -> None:
        self.send(*wire.encode(message), *attachments)

    def claim(self, kind: type[Any], *attachments: bytes, **fields: Any) -> None:
        """Say something of this kind with whatever fields, true to no type."""
        body = msgpack.packb(fields)
        self.send(bytes((wire.VERSION, kind.type_code)), body, *attachments)

    def hear(self, kind: type[M], timeout_s: float = TIMEOUT_S) -> M:
        """Return the next message of that kind; others are dropped.

        Those that `Deltas` carries are heard after it, each like a message of its own.
        """
        until = time.monotonic() + timeout_s
        while time.monotonic() < until:
            while self.heard:
                message = self.heard.popleft()
                if isinstance(message, kind):
                    return message
            if self.socket.poll(50):
                self.receive()
        raise AssertionError(f"no {kind.__name__} within {timeout_s:g} s")

    def receive(self) -> None:
        frames = self.socket.recv_multipart()
        if self.is_router:
            self.peer, frames = frames[0], frames[1:]
        message, _ = wire.decode(frames, Message)
        self.heard.append(message)
        if isinstance(message, Deltas):
            self.heard.extend((*message.accepted, *message.done))


@contextlib.contextmanager
def unbounded_socket(kind: int) -> Iterator[zmq.Socket[bytes]]:
    """A socket that drops nothing of a flood: what would be dropped is the question behind it."""
    with zmq.Context() as context, context.socket(kind) as socket:
        socket.setsockopt(zmq.SNDHWM, 0)
        socket.setsockopt(zmq.LINGER, 0)
        yield socket


@contextlib.contextmanager
def stranger(endpoint: str, routing_id: bytes = b"") -> Iterator[Stranger]:
    """A peer that connects to a gateway's worker port."""
    with unbounded_socket(zmq.DEALER) as socket:
        socket.setsockopt(zmq.ROUTING_ID, routing_id or secrets.token_bytes(16))
        socket.connect(endpoint)
        yield Stranger(socket)


@contextlib.contextmanager
def false_worker(endpoint: str, model: str, **fields: Any) -> Iterator[Stranger]:
    """A worker whose hello is believed, the only one of its model."""
    facts: dict[str, Any] = {
        "slots": 4,
        "stream_slots": 4,
        "state": "ready",
        "instance": secrets.token_hex(4),
    }
    with stranger(endpoint) as peer:
        peer.say(Hello(worker=f"false-{model}", models=[model], **(facts | fields)))
        peer.hear(Welcome)
        yield peer


@contextlib.contextmanager
def false_gateway(endpoint: str = "tcp://127.0.0.1:*") -> Iterator[Stranger]:
    """A gateway of the test's own; its `endpoint` attribute is where workers find it."""
    with unbounded_socket(zmq.ROUTER) as socket:
        socket.bind(endpoint)
        yield Stranger(socket)


def where(peer: Stranger) -> str:
    return peer.socket.getsockopt_string(zmq.LAST_ENDPOINT)


def take_job(peer: Stranger, timeout_s: float = TIMEOUT_S) -> str:
    """Return the id of the next job that is submitted."""
    return peer.hear(Submit, timeout_s).job.id


def memory_bytes(pid: int) -> int:
    """Resident memory of a process."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    raise AssertionError(f"no process {pid}")

"""Every socket option and CURVE key in one place: the two kinds of socket the tiers use, and how
messages go in and out of them."""

from __future__ import annotations

import errno
import fcntl
import os
import socket as unix
import stat
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import cast

import zmq
import zmq.auth

MIB = 1024 * 1024
MAX_FRAME_BYTES = 64 * MIB
"""The longest image or message that a gateway sends."""
MAX_FRAME_BYTES_FROM_WORKERS = 8 * MIB

# libzmq closes the connection of a peer that announces a longer frame, before any of it comes. So
# what it is told lies above what is ever sent: CURVE makes each frame a little longer, and a worker
# that was cut off by its gateway's message would be cut off again by the same one.
LARGEST_FRAME_TAKEN_BYTES = 2 * MAX_FRAME_BYTES
LARGEST_FRAME_TAKEN_FROM_WORKERS_BYTES = MAX_FRAME_BYTES_FROM_WORKERS + MIB

SEND_HIGH_WATER_MARK = 10_000
RECEIVE_HIGH_WATER_MARK = 0
"""No limit, because libzmq (4.3.5) does not survive its own: a peer that fills its pipe, sends a
ZMTP ping and breaks its connection makes it abort the process (`Assertion failed: !_io_error`)."""

LONGEST_LOCK_S = 5.0
LOOK_EVERY_S = 0.02
"""How long a folder's lock is waited for, which is held for a few milliseconds."""

HANDSHAKE_MS = 5_000
ZMTP_HEARTBEAT_MS = 2_000
ZMTP_TIMEOUT_MS = 6_000

# pyzmq's flags are enumerations whose arithmetic takes longer than libzmq's work: a message of
# three frames took 3.1 µs to send and 2.9 to receive with `*_multipart`, and 1.0 and 1.8 with the
# functions below (measured on the development machine).
_DO_NOT_WAIT = int(zmq.NOBLOCK)
_MORE_FOLLOWS = int(zmq.NOBLOCK | zmq.SNDMORE)
_EVENTS = int(zmq.EVENTS)
_READABLE = int(zmq.POLLIN)


def send(
    socket: zmq.Socket[bytes], frames: Sequence[bytes], attachments: Sequence[bytes] = ()
) -> None:
    """Send one message: frames, then attachments, which are not copied; never waits.

    Raises:
        zmq.Again: the peer's pipe is full.
        zmq.ZMQError: EHOSTUNREACH: a ROUTER's peer is gone.
    """
    *most, last = frames
    for frame in most:
        socket.send(frame, _MORE_FOLLOWS)
    socket.send(last, _MORE_FOLLOWS if attachments else _DO_NOT_WAIT)
    if attachments:
        socket.send_multipart(attachments, _DO_NOT_WAIT, copy=False)


def receive(socket: zmq.Socket[bytes]) -> list[bytes]:
    """Return the frames of the next message; never waits.

    Raises:
        zmq.Again: there is none.
    """
    part = socket.recv(_DO_NOT_WAIT, copy=False)
    frames = [part.bytes]
    while part.more:
        part = socket.recv(_DO_NOT_WAIT, copy=False)
        frames.append(part.bytes)
    return frames


def readable(socket: zmq.Socket[bytes]) -> bool:
    """Whether a message is there now."""
    return bool(cast(int, socket.get(_EVENTS)) & _READABLE)


def make_router(
    context: zmq.Context[zmq.Socket[bytes]], curve_key: Path | None
) -> zmq.Socket[bytes]:
    """Return the gateway's unbound socket.

    `ROUTER_MANDATORY` turns a vanished peer into EHOSTUNREACH on send (measured: 2 ms after
    `kill -9`); without it the message is dropped silently.

    Args:
        curve_key: a CURVE secret key file; None for a plain socket.
    """
    socket = context.socket(zmq.ROUTER)
    socket.setsockopt(zmq.ROUTER_MANDATORY, 1)
    # A worker that reconnects after a broken link must not wait for its dead connection to time
    # out. Routing ids are 16 random bytes, so nobody takes over another's by guessing.
    socket.setsockopt(zmq.ROUTER_HANDOVER, 1)
    _set_limits(socket, LARGEST_FRAME_TAKEN_FROM_WORKERS_BYTES)
    if curve_key is not None:
        public, secret = zmq.auth.load_certificate(curve_key)
        socket.curve_publickey, socket.curve_secretkey = public, secret
        socket.curve_server = True
    return socket


def make_dealer(
    context: zmq.Context[zmq.Socket[bytes]],
    routing_id: bytes,
    curve_key: Path | None = None,
    server_key: Path | None = None,
) -> zmq.Socket[bytes]:
    """Return a worker's unconnected socket; one for each gateway.

    `IMMEDIATE` keeps messages from piling up for a gateway that is away.

    Args:
        routing_id: fresh random bytes for each start of the engine process, so that a new
            session is never mistaken for the old one.
        curve_key: the worker's CURVE secret key file.
        server_key: the gateway's public key file.
    """
    socket = context.socket(zmq.DEALER)
    socket.setsockopt(zmq.ROUTING_ID, routing_id)
    socket.setsockopt(zmq.IMMEDIATE, 1)
    socket.setsockopt(zmq.RECONNECT_IVL, 100)
    socket.setsockopt(zmq.RECONNECT_IVL_MAX, 2_000)
    _set_limits(socket, LARGEST_FRAME_TAKEN_BYTES)
    if curve_key is not None and server_key is not None:
        socket.curve_publickey, socket.curve_secretkey = zmq.auth.load_certificate(curve_key)
        socket.curve_serverkey = zmq.auth.load_certificate(server_key)[0]
    return socket


def bind(socket: zmq.Socket[bytes], endpoint: str) -> str:
    """Listen there; return where that really is: port `*` gets a free one.

    Raises:
        zmq.ZMQError: EADDRINUSE, EEXIST and others.
    """
    scheme, _, path = endpoint.partition("://")
    if scheme == "ipc":
        with _alone_in(os.path.dirname(path) or "."):
            _check_free(path)
            socket.bind(endpoint)
    else:
        socket.setsockopt(zmq.IPV6, _is_ipv6(endpoint))
        socket.bind(endpoint)
    return socket.getsockopt_string(zmq.LAST_ENDPOINT)


def connect(socket: zmq.Socket[bytes], endpoint: str) -> None:
    """Connect; ZeroMQ goes on trying until somebody listens there."""
    socket.setsockopt(zmq.IPV6, _is_ipv6(endpoint))
    socket.connect(endpoint)


def _is_ipv6(endpoint: str) -> bool:
    """Of addresses alone: a name such as `localhost` would lead to either kind, and the two sides
    must mean the same."""
    return "://[" in endpoint


@contextmanager
def _alone_in(folder: str) -> Iterator[None]:
    """Lock the folder, since of two who find a path free at once the second would take it from the
    first. One that cannot be locked, or whose lock somebody else keeps, is done without."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError:
        yield
        return
    try:
        until = time.monotonic() + LONGEST_LOCK_S
        while not _is_locked(descriptor) and time.monotonic() < until:
            time.sleep(LOOK_EVERY_S)
        yield
    finally:
        os.close(descriptor)  # and with it, the lock


def _is_locked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _check_free(path: str) -> None:
    """libzmq would delete what is there, without a word: somebody's socket, or any file. Raises
    zmq.ZMQError."""
    if _is_answered(path):
        raise zmq.ZMQError(errno.EADDRINUSE)
    if os.path.exists(path) and not stat.S_ISSOCK(os.stat(path).st_mode):
        raise zmq.ZMQError(errno.EEXIST)


def _is_answered(path: str) -> bool:
    with unix.socket(unix.AF_UNIX) as probe:
        try:
            probe.connect(path)
        except OSError:
            return False
    return True


def _set_limits(socket: zmq.Socket[bytes], max_frame_bytes: int) -> None:
    socket.setsockopt(zmq.LINGER, 0)
    socket.setsockopt(zmq.SNDHWM, SEND_HIGH_WATER_MARK)
    socket.setsockopt(zmq.RCVHWM, RECEIVE_HIGH_WATER_MARK)
    socket.setsockopt(zmq.MAXMSGSIZE, max_frame_bytes)
    socket.setsockopt(zmq.HANDSHAKE_IVL, HANDSHAKE_MS)
    socket.setsockopt(zmq.HEARTBEAT_IVL, ZMTP_HEARTBEAT_MS)
    socket.setsockopt(zmq.HEARTBEAT_TIMEOUT, ZMTP_TIMEOUT_MS)
    socket.setsockopt(zmq.HEARTBEAT_TTL, ZMTP_TIMEOUT_MS)

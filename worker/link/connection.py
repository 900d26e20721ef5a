"""One gateway as a worker sees it: its socket, whether it lives, and what is to be said to it."""

from __future__ import annotations

import logging
import secrets
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal, cast

import zmq

from shared import wire
from shared.messages import FromGateway, Message, Welcome, WorkerState
from shared.sockets import connect, make_dealer, receive, send
from worker.settings import Settings

log = logging.getLogger(__name__)

MISSED_PINGS = 3
SILENT_SOCKET_S = 5.0
"""A socket that has brought nothing for so long is built anew. libzmq gives up for good when what
stood at the address spoke another protocol, had no keys, or did not know this worker's."""
MIN_NEWS_INTERVAL_S = 0.05
ALONE_AFTER_S = 5.0
"""How long no gateway may answer before the log says so; both tiers often start together."""
MAX_MESSAGES_A_TURN = 64
"""How many messages of one gateway are read before the others, and the engine's, get their turn."""


@dataclass
class GatewayConnection:
    """`id` is empty until the gateway has said welcome, and after it has fallen silent."""

    index: int
    endpoint: str
    socket: zmq.Socket[bytes]
    make_socket: Callable[[], zmq.Socket[bytes]]
    id: str = ""
    stale: bool = False
    """Other gateways' jobs have changed what is free here since the last heartbeat."""

    _heartbeat_s: float = 1.0
    _heard_at: float = 0.0
    _built_at: float | None = None
    _beat_at: float = 0.0
    _greeted_as: str = ""
    _dropped: int = 0
    _connected: bool = False
    _alone_since: float | None = None
    _told: bool = False

    @classmethod
    def open(
        cls, context: zmq.Context[zmq.Socket[bytes]], index: int, endpoint: str, settings: Settings
    ) -> GatewayConnection:
        """Connect; ZeroMQ goes on trying until somebody listens there."""
        make_socket = partial(
            make_dealer,
            context,
            secrets.token_bytes(16),
            Path(settings.worker_key) if settings.worker_key else None,
            Path(settings.gateway_key) if settings.gateway_key else None,
        )
        connection = cls(index, endpoint, make_socket(), make_socket)
        connect(connection.socket, endpoint)
        return connection

    def is_dead(self, now: float) -> bool:
        """Whether nobody has spoken through this socket for too long, so that it may be that nobody
        ever will."""
        if self._built_at is None:
            self._built_at = now
        return not self.id and now - max(self._heard_at, self._built_at) > SILENT_SOCKET_S

    def rebuild(self, now: float) -> None:
        """Connect anew, under the same routing id: for a gateway it is the same session."""
        self.socket.close(linger=0)
        self.socket = self.make_socket()
        connect(self.socket, self.endpoint)
        self._built_at = now

    def welcomed(self, welcome: Welcome) -> None:
        self.id, self._heartbeat_s = welcome.gateway, welcome.heartbeat_s
        self._beat_at = 0.0
        if not self._connected:
            log.info("connected to gateway %s", self.endpoint)
        self._connected, self._alone_since, self._told = True, None, False

    def forget(self) -> None:
        """Begin with a hello again."""
        self.id = self._greeted_as = ""
        self._connected = False

    def greet_at_once(self) -> None:
        self._beat_at = 0.0

    def has_fallen_silent(self, now: float) -> bool:
        return bool(self.id) and now - self._heard_at > MISSED_PINGS * self._heartbeat_s

    def due(self, state: WorkerState, now: float) -> Literal["hello", "heartbeat"] | None:
        """What is to be said now, if anything: hello until welcomed, then heartbeats."""
        self._tell_if_alone(now)
        interval = MIN_NEWS_INTERVAL_S if self.stale else self._heartbeat_s
        if now - self._beat_at < interval and self._greeted_as == state:
            return None
        self._beat_at = now
        if self.id and self._greeted_as == "loading" and state == "ready":
            # Only now is it known what the model can do.
            self.id = ""
        if self.id:
            self._greeted_as = state
            self.stale = False
            return "heartbeat"
        if cast(int, self.socket.get(zmq.EVENTS)) & zmq.POLLOUT:
            self._greeted_as = state
            return "hello"
        return None

    def _tell_if_alone(self, now: float) -> None:
        if self._connected or self._told:
            return
        if self._alone_since is None:
            self._alone_since = now
        if now - self._alone_since > ALONE_AFTER_S:
            self._told = True
            log.warning(
                "no gateway answers at %s; trying on (does one listen there, and do both sides "
                "use keys, or neither?)",
                self.endpoint,
            )

    def messages(self, now: float) -> Iterator[tuple[Message, list[bytes]]]:
        """What has arrived, as far as it can be understood, with its images."""
        for _ in range(MAX_MESSAGES_A_TURN):
            try:
                frames = receive(self.socket)
            except zmq.Again:
                return
            try:
                message, images = wire.decode(frames, FromGateway)
            except wire.ProtocolError as error:
                self._dropped += 1
                if self._dropped == 1:
                    log.warning("dropped a message from %s: %s", self.endpoint, error)
                continue
            self._heard_at = now
            yield message, [bytes(image) for image in images]

    def send(self, message: Message) -> None:
        try:
            send(self.socket, wire.encode(message))
        except zmq.Again:
            log.debug("gateway %s is not reachable", self.endpoint)
        except wire.MessageTooLong as error:
            # The gateway notices that something is missing, and runs the job again or ends it.
            log.error("not sent to gateway %s: %s", self.endpoint, error)

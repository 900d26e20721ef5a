"""Workers coming, going, falling silent: what keeps the registry true. Pure, like the dispatcher.

Three signals for three faults: a send that fails (the process is gone, noticed at once), missing
heartbeats (machine or network gone, or the process stopped), and heartbeats that report active
jobs but no engine step (the device hangs).
"""

from __future__ import annotations

import logging
from collections import Counter

from gateway.dispatch.core.counting import Counting
from gateway.dispatch.core.dispatcher import Dispatcher, Send
from gateway.dispatch.core.failover import Failover
from gateway.dispatch.core.sessions import HEARTBEAT_S, Registry, Session, identity
from shared.messages import (
    Control,
    Goodbye,
    Heartbeat,
    Hello,
    Identify,
    Message,
    Ping,
    Welcome,
    WorkerAction,
)

log = logging.getLogger(__name__)

MAX_SESSIONS = 1_024
MAX_MODELS = 64
MAX_NAME_CHARACTERS = 256

DROP_REASONS = (
    "version",
    "malformed",
    "failed",
    "refused_key",
    "unknown_peer",
    "bad_hello",
    "too_many_sessions",
)
"""Why messages are dropped. All are told from the start, so that a rate has something to rise
from."""


class Membership:
    """Opens and closes sessions; `gateway_id` is fresh for each start of the gateway."""

    def __init__(self, gateway_id: str, registry: Registry, dispatcher: Dispatcher) -> None:
        self.gateway_id = gateway_id
        self.registry = registry
        self.dispatcher = dispatcher
        self.failover = Failover(dispatcher)
        self.counting = Counting(registry, dispatcher.effects, dispatcher.queue_timeout_s)
        self.dropped: Counter[str] = Counter(dict.fromkeys(DROP_REASONS, 0))
        self._next_ping_at = 0.0
        self._challenged: dict[bytes, float] = {}

    def message(self, routing_id: bytes, message: Message, now: float) -> None:
        """Take any well-formed message from any peer."""
        session = self.registry.sessions.get(routing_id)
        if isinstance(message, Hello):
            self._hello(routing_id, message, now)
        elif session is None:
            self.dropped["unknown_peer"] += 1
            self._challenge(routing_id, now)
        else:
            self._heard(session, now)
            if isinstance(message, Heartbeat):
                self._heartbeat(session, message, now)
            elif isinstance(message, Goodbye):
                self._close(session, now, "said goodbye", returning=message.returning)
            elif not self.counting.message(session, message):
                self.dispatcher.message(session, message, now)

    def unreachable(self, routing_id: bytes, now: float) -> None:
        """A send to this peer failed: its process or connection is gone."""
        session = self.registry.sessions.get(routing_id)
        if session is not None:
            self._close(session, now, "has lost its connection", returning=True)

    def excuse(self, now: float) -> None:
        """This process stood still: nobody's silence until now counts."""
        for session in self.registry.sessions.values():
            session.seen_at = now

    def tick(self, now: float) -> None:
        for session in self.registry.sessions.values():
            session.suspect = session.overdue(now)
        for session in list(self.registry.sessions.values()):
            if session.silent(now):
                self._close(session, now, "has fallen silent", returning=True)
            elif session.stalled():
                self._close(session, now, "makes no progress", returning=True)
        leased = {lease.hello.models[0] for lease in self.registry.leases.values()}
        for worker in self.registry.renew_leases(now):
            self.failover.confirm_death(worker, now)
        for pool in leased:
            self.dispatcher.refit(pool, now)
        self.counting.tick(now)
        if now >= self._next_ping_at:
            self._next_ping_at = now + HEARTBEAT_S
            self.ping()

    def ping(self) -> None:
        """Show every worker that the gateway lives; a vanished one fails the send."""
        for routing_id in self.registry.sessions:
            self._send(routing_id, Ping(gateway=self.gateway_id))

    def control(self, worker: str, action: WorkerAction) -> bool:
        """Pass on an operator's order; False when no such worker is connected."""
        for session in self.registry.sessions.values():
            if session.name == worker:
                self._send(session.routing_id, Control(action=action))
                return True
        return False

    def _heard(self, session: Session, now: float) -> None:
        session.seen_at = now
        if session.suspect:
            session.suspect = False
            self.dispatcher.pump(session.pool, now)

    def _challenge(self, routing_id: bytes, now: float) -> None:
        """Ask a stranger who it is: once, however much it has to say before it answers."""
        if now >= self._challenged.get(routing_id, now):
            if len(self._challenged) >= MAX_SESSIONS:
                self._challenged.clear()
            self._challenged[routing_id] = now + HEARTBEAT_S
            self._send(routing_id, Identify())

    def _hello(self, routing_id: bytes, hello: Hello, now: float) -> None:
        if not _presentable(hello):
            self.dropped["bad_hello"] += 1
            return
        known = self.registry.sessions.get(routing_id)
        older = known or self.registry.predecessor(hello, routing_id)
        if older is None and len(self.registry.sessions) >= MAX_SESSIONS:
            self.dropped["too_many_sessions"] += 1
            return
        if older is not None and not (older is known and older.state == "loading"):
            self._close(older, now, "has started anew", returning=True)
        self._challenged.pop(routing_id, None)
        self.failover.absolve(routing_id, now)
        self.failover.confirm_death(identity(hello), now)
        session = self.registry.open(routing_id, hello, now)
        log.info("worker %s connected (%s): %s", hello.worker, hello.state, hello.models[0])
        self._send(routing_id, Welcome(gateway=self.gateway_id, heartbeat_s=HEARTBEAT_S))
        self.dispatcher.refit(session.pool, now)

    def _heartbeat(self, session: Session, beat: Heartbeat, now: float) -> None:
        before = (session.state, session.slots, session.stream_slots)
        session.observe(beat)
        if session.state == "ready":
            self.registry.leases.pop(session.identity, None)
        self.failover.reconcile(session, {*beat.jobs, *beat.streams}, now)
        if before != (session.state, session.slots, session.stream_slots):
            if before[0] != session.state:
                log.info("worker %s is %s", session.name, session.state)
            self.dispatcher.refit(session.pool, now)

    def _close(self, session: Session, now: float, why: str, *, returning: bool) -> None:
        log.warning("worker %s %s", session.name, why)
        self.registry.close(session, now, returning=returning)
        self.failover.lose(session, now)
        if session.identity not in self.registry.leases:
            self.failover.confirm_death(session.identity, now)

    def _send(self, routing_id: bytes, message: Message) -> None:
        self.dispatcher.effects.append(Send(routing_id, message))


def _presentable(hello: Hello) -> bool:
    """Whether what it calls itself may stand in logs, metrics and on the page."""
    texts = [hello.worker, hello.instance, hello.host, hello.device, *hello.models]
    texts += [text for item in hello.versions.items() for text in item]
    return (
        bool(hello.worker)
        and 0 < len(hello.models) <= MAX_MODELS
        and all(hello.models)
        and len(hello.versions) <= MAX_MODELS
        and all(len(text) <= MAX_NAME_CHARACTERS and text.isprintable() for text in texts)
    )

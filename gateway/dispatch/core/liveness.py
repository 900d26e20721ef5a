"""Workers coming, going, falling silent: what keeps the registry true.

Three signals for three faults: a send that fails (the process is gone, noticed at once), missing
heartbeats (machine or network gone, or the process stopped), and heartbeats that report active
jobs but no engine step (the device hangs).
"""

from __future__ import annotations

import logging
from collections import Counter, deque

from gateway.dispatch.core.dispatcher import Dispatcher
from gateway.dispatch.core.failover import Failover
from gateway.dispatch.core.sessions import (
    HEARTBEAT_S,
    MADE_UP,
    Registry,
    Session,
    identity,
    process,
)
from shared.messages import (
    Control,
    Goodbye,
    Heartbeat,
    Hello,
    Identify,
    Ping,
    Welcome,
    WorkerAction,
)

log = logging.getLogger(__name__)

MAX_SESSIONS = 1_024
MAX_MODELS = 64
MAX_NAME_CHARACTERS = 256

DROP_REASONS = ("unknown_peer", "bad_hello", "late_hello", "too_many_sessions")
"""Why messages are dropped here. All are told from the start, so that a rate has something to
rise from."""


class Liveness:
    """Opens and closes sessions; `gateway_id` is fresh for each start of the gateway."""

    def __init__(
        self, gateway_id: str, registry: Registry, dispatcher: Dispatcher, failover: Failover
    ) -> None:
        self.dropped: Counter[str] = Counter(dict.fromkeys(DROP_REASONS, 0))
        self._gateway_id = gateway_id
        self._registry = registry
        self._dispatcher = dispatcher
        self._failover = failover
        self._next_ping_at = 0.0
        self._challenged: dict[bytes, float] = {}
        self._hung: deque[bytes] = deque(maxlen=MAX_SESSIONS)
        """Who was given up because it made no progress."""

    # --- what workers say ------------------------------------------------------------------

    def hello(self, routing_id: bytes, hello: Hello, now: float) -> None:
        if not _presentable(hello):
            self.dropped["bad_hello"] += 1
            return
        known = self._registry.sessions.get(routing_id)
        older = known or self._registry.predecessor(hello, routing_id)
        if older is None and len(self._registry.sessions) >= MAX_SESSIONS:
            self.dropped["too_many_sessions"] += 1
            return
        if older is not None and older is not known and _left_behind(older, routing_id, hello, now):
            self.dropped["late_hello"] += 1
            return
        self._challenged.pop(routing_id, None)
        if known is not None and (known.identity, known.pool) == (identity(hello), hello.models[0]):
            self._greeted_again(known, hello, now)
        else:
            self._arrived(routing_id, hello, older, now)
        log.info("worker %s connected (%s): %s", hello.worker, hello.state, hello.models[0])
        welcome = Welcome(gateway=self._gateway_id, heartbeat_s=HEARTBEAT_S)
        self._dispatcher.send(routing_id, welcome)

    def _greeted_again(self, session: Session, hello: Hello, now: float) -> None:
        """It has dropped what it held. It may say so several times before it hears the answer, and
        what it is sent in between stays there."""
        session.heard(now)
        self._failover.forget(session, now)
        session.greeted_again(hello)
        self._registry.end_lease(session)

    def _arrived(self, routing_id: bytes, hello: Hello, older: Session | None, now: float) -> None:
        if older is not None:
            self._close(older, now, "has started anew")
        self._failover.absolve(routing_id, process(hello), now)
        self._failover.confirm_death(identity(hello), now, hello.died_with)
        session = self._registry.open(routing_id, hello, now)
        session.hung = routing_id in self._hung
        # A host's engines have its name, and each another model.
        former = None if hello.supervisor else self._registry.model_left(hello)
        if former is not None:
            self._left_model(hello, former, now)

    def _left_model(self, hello: Hello, former: str, now: float) -> None:
        """A worker of a known name is back with another model: the one before is not coming."""
        for worker in self._registry.end_leases(hello, former):
            self._failover.confirm_death(worker, now)
        if not self._registry.expects(former):
            self._dispatcher.nobody_serves(former, now)

    def heartbeat(self, session: Session, beat: Heartbeat, now: float) -> None:
        before = session.state
        session.observe(beat)
        self._registry.end_lease(session)
        self._failover.reconcile(session, beat, now)
        if before != session.state:
            log.info("worker %s is %s", session.name, session.state)

    def goodbye(self, session: Session, goodbye: Goodbye, now: float) -> None:
        self._close(session, now, "said goodbye", returning=goodbye.returning, blame=False)

    def challenge(self, routing_id: bytes, now: float) -> None:
        """Ask a stranger who it is: once, however much it has to say before it answers."""
        self.dropped["unknown_peer"] += 1
        if now >= self._challenged.get(routing_id, now):
            if len(self._challenged) >= MAX_SESSIONS:
                self._challenged.clear()
            self._challenged[routing_id] = now + HEARTBEAT_S
            self._dispatcher.send(routing_id, Identify())

    # --- what they do not say --------------------------------------------------------------

    def unreachable(self, routing_id: bytes, now: float) -> None:
        """A send to this peer failed: its process or connection is gone."""
        session = self._registry.sessions.get(routing_id)
        if session is not None:
            self._close(session, now, "has lost its connection")

    def excuse(self, now: float) -> None:
        """Nobody's silence until now counts."""
        self._registry.excuse(now)

    def review(self, now: float, *, ping: bool) -> None:
        """Suspect and give up as the time demands. A ping shows each worker that the gateway
        lives, and the sending fails when the worker has gone: one now and then, and when asked."""
        for session in list(self._registry.sessions.values()):
            session.review(now)
            if session.silent(now):
                self._close(session, now, "has fallen silent")
            elif session.stalled:
                self._give_up_hung(session, now)
        for worker in self._registry.renew_leases(now):
            self._failover.confirm_death(worker, now)
        if ping or now >= self._next_ping_at:
            self._next_ping_at = now + HEARTBEAT_S
            for routing_id in self._registry.sessions:
                self._dispatcher.send(routing_id, Ping(gateway=self._gateway_id))

    def _give_up_hung(self, session: Session, now: float) -> None:
        """Whatever it says of itself afterwards: what it held may have been the cause."""
        self._hung.append(session.routing_id)
        self._close(session, now, "makes no progress")
        self._failover.confirm_hang(session.routing_id, now)

    def order(self, worker: str, action: WorkerAction) -> None:
        """Pass on an operator's order."""
        for session in self._registry.sessions.values():
            if session.name == worker:
                self._dispatcher.send(session.routing_id, Control(action=action))
                return

    def _close(
        self, session: Session, now: float, why: str, *, returning: bool = True, blame: bool = True
    ) -> None:
        log.warning("worker %s %s", session.name, why)
        self._registry.close(session, now, returning=returning)
        self._failover.lose(session, now, blame=blame)
        if session.identity not in self._registry.leases:
            self._failover.confirm_death(session.identity, now)


def _left_behind(older: Session, routing_id: bytes, hello: Hello, now: float) -> bool:
    """Whether a worker that is here under its own routing id has said this long ago.

    libzmq gives a connection that a newer one of the same id replaces an id of its own making, and
    what had come over it and is still unread comes under that. Nobody can be reached there.
    """
    same_process = older.process != "" and older.process == process(hello)
    made_up = routing_id[:1] == MADE_UP and older.routing_id[:1] != MADE_UP
    return (same_process or made_up) and not older.overdue(now)


def _presentable(hello: Hello) -> bool:
    """Whether what it calls itself may stand in logs, metrics and on the page."""
    texts = [hello.worker, hello.instance, hello.host, hello.device, hello.supervisor]
    texts += hello.models
    texts += [text for item in hello.versions.items() for text in item]
    texts += hello.proven
    return (
        bool(hello.worker)
        and 0 < len(hello.models) <= MAX_MODELS
        and all(hello.models)
        and max(len(hello.versions), len(hello.proven)) <= MAX_MODELS
        and all(len(text) <= MAX_NAME_CHARACTERS and text.isprintable() for text in texts)
    )

"""The front door of dispatch: what happened and the time go in, what is to be done comes out.

No socket, no task, no clock. Who calls an entry carries out the effects that it returns before
calling the next one; that is all there is to know.
"""

from __future__ import annotations

from collections.abc import Sequence

from gateway.dispatch.core.acts import Abandon, Act, Order, OrderModel, Prepare, Reserve
from gateway.dispatch.core.admission import Admission
from gateway.dispatch.core.catalogues.hosts import Hosts
from gateway.dispatch.core.changes import Changes
from gateway.dispatch.core.dispatcher import Dispatcher, RetryAfter
from gateway.dispatch.core.effects import Effect, Send
from gateway.dispatch.core.failover import Failover
from gateway.dispatch.core.liveness import Liveness
from gateway.dispatch.core.loading import Loading
from gateway.dispatch.core.results import Results
from gateway.dispatch.core.sessions import Registry, Session
from gateway.dispatch.core.view import View
from gateway.errors import QueueFull
from shared.messages import Catalogue, Goodbye, Heartbeat, Hello, Message


class Core:
    """One entry for each who speaks: requests, workers, the clock; and one for what could not be
    sent. Each ends in `_settle`. If one raises, what it has brought about so far is settled by
    the next. `now` is in monotonic seconds everywhere.

    Args:
        gateway_id: fresh for each start of the gateway.
        queue_size: most non-streaming jobs that may wait.
        queue_timeout_s: how long a job may take; see `Dispatcher`.
        retry_after: when somebody who is refused should come back.
        stream_wait_s: how long a stream may wait for a slot; 0: it is refused at once.
    """

    def __init__(
        self,
        gateway_id: str,
        queue_size: int,
        queue_timeout_s: float,
        retry_after: RetryAfter,
        stream_wait_s: float = 0.0,
    ) -> None:
        self._changes = Changes()
        self._registry = Registry(self._changes)
        admission = Admission(queue_size, stream_wait_s > 0, self._changes)
        hosts = Hosts()
        self._dispatcher = Dispatcher(
            admission,
            self._registry,
            hosts,
            self._changes,
            queue_timeout_s,
            retry_after,
            stream_wait_s,
        )
        self._failover = Failover(self._dispatcher, self._registry)
        self._results = Results(self._dispatcher, queue_timeout_s)
        self._liveness = Liveness(gateway_id, self._registry, self._dispatcher, self._failover)
        self._loading = Loading(
            gateway_id,
            hosts,
            self._registry,
            self._dispatcher,
            self._failover,
            self._changes,
            queue_timeout_s,
        )
        self.view = View(
            self._dispatcher,
            self._registry,
            hosts,
            admission,
            self._liveness,
            self._loading,
            self._results,
        )

    def request(self, act: Act, now: float) -> list[Effect]:
        """A request's own act, or the operator's.

        Raises:
            ApiError: `Reserve` is refused; see `Dispatcher.reserve`. Or `OrderModel` is; see
                `Loading.order`. No job has come of it.
        """
        match act:
            case Reserve():
                self._reserve(act, now)
            case Prepare():
                self._dispatcher.prepared(act, now)
            case Abandon():
                self._dispatcher.abandon(act.job_id, now)
            case Order():
                self._liveness.order(act.worker, act.action)
            case OrderModel():
                self._loading.order(act, now)
        return self._settle(now)

    def _reserve(self, act: Reserve, now: float) -> None:
        try:
            self._dispatcher.reserve(act, now)
        except QueueFull:
            self._loading.turned_away(act.request.model, now)
            raise
        limit_s = act.request.idle_unload_s
        if limit_s is not None:
            self._loading.limit_idle(self._dispatcher.jobs[act.job_id].pool, limit_s, now)

    def message(self, routing_id: bytes, message: Message, now: float) -> list[Effect]:
        """Any well-formed message from any peer."""
        session = self._registry.sessions.get(routing_id)
        if isinstance(message, Hello):
            self._liveness.hello(routing_id, message, now)
        elif isinstance(message, Catalogue):
            self._loading.catalogue(routing_id, message, now)
        elif session is None:
            self._liveness.challenge(routing_id, now)
        else:
            self._said(session, message, now)
        return self._settle(now)

    def _said(self, session: Session, message: Message, now: float) -> None:
        """By a worker that is known."""
        session.heard(now)
        match message:
            case Heartbeat():
                self._liveness.heartbeat(session, message, now)
            case Goodbye():
                self._liveness.goodbye(session, message, now)
            case _:
                self._results.message(session, message, now)

    def tick(
        self, now: float, *, stood_still: bool = False, somebody_gone: bool = False
    ) -> list[Effect]:
        """Time has passed.

        `stood_still`: this process has not run for a while, and may have left unread what the
        workers said meanwhile: their silence is its own. `somebody_gone`: a connection has
        broken, and a ping to each worker is to show whose.
        """
        if stood_still:
            self._liveness.excuse(now)
            self._loading.excuse(now)
        self._liveness.review(now, ping=somebody_gone)
        self._loading.review(now, ping=somebody_gone)
        self._dispatcher.end_overdue(now)
        return self._settle(now)

    def undelivered(
        self, sends: Sequence[Send], now: float, *, too_long: Sequence[Send] = ()
    ) -> list[Effect]:
        """All the sends of one entry's effects that failed: their peers are gone. Together, so
        that no job is blamed for the loss of a worker that another's send has found out.

        `too_long`: those that must not go on the wire. Their jobs end, and nothing else.
        """
        self._failover.too_long(too_long, now)
        self._failover.undelivered(sends)
        for routing_id in dict.fromkeys(send.routing_id for send in sends):
            self._liveness.unreachable(routing_id, now)
            self._loading.unreachable(routing_id, now)
        return self._settle(now)

    def _settle(self, now: float) -> list[Effect]:
        """Give every pool that has changed its due, until nothing changes any more."""
        changes, dispatcher = self._changes, self._dispatcher
        while changes.resized or changes.stirred or changes.wanted:
            while changes.resized:
                pool = changes.resized.pop()
                dispatcher.refit(pool)
                changes.wanted.add(pool)
            if changes.stirred:
                dispatcher.pump(changes.stirred.pop(), now)
            elif changes.wanted:
                self._loading.look(changes.wanted.pop(), now)
        effects, dispatcher.effects = dispatcher.effects, []
        return effects

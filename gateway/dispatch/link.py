"""Runs the core on a ROUTER socket and a clock; hands out tickets to request handlers."""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import zmq
from zmq.utils.monitor import parse_monitor_message

from gateway.dispatch.core.acts import Act, Order, Reserve
from gateway.dispatch.core.core import Core
from gateway.dispatch.core.effects import Effect, Ended, Send, Tell
from gateway.dispatch.stats.report import Report
from gateway.dispatch.stats.statistics import Statistics
from gateway.dispatch.tickets import JobTicket
from gateway.errors import QueueFull
from gateway.generation import GenerationRequest
from gateway.settings import Settings
from shared import wire
from shared.messages import FromWorker, WorkerAction
from shared.sockets import bind, make_router, readable, receive, send
from shared.wire import MessageTooLong

if TYPE_CHECKING:
    from zmq.auth.asyncio import AsyncioAuthenticator

log = logging.getLogger(__name__)

WATCHED_EVENTS = (
    zmq.EVENT_DISCONNECTED
    | zmq.EVENT_HANDSHAKE_FAILED_AUTH
    | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL
    | zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL
)
TICK_S = 0.05
ID_BYTES = 16
FIND_OUT_AFTER_S = (0.0, 0.01, 0.1)
"""When to ping after a broken connection: libzmq announces the break a little before it refuses
to send there."""

MAX_MESSAGES_A_TURN = 256
MAX_TURN_S = 0.02
"""How many messages are read, and for how long, before other tasks of the event loop get their
turn."""

LATE_TICK_S = 0.5
"""A tick that comes so much later than it should: it was this process that stood still."""


class Link:
    """The gateway's side of the wire; implements `gateway.generation.Dispatch`."""

    def __init__(self, settings: Settings) -> None:
        self.statistics = Statistics()
        self._core = Core(
            secrets.token_hex(8),
            settings.queue_size,
            settings.queue_timeout,
            self.statistics.retry_after_s,
            settings.stream_wait,
        )
        self.status = Report(self._core.view, self.statistics, self._order, self._perform)
        self._binds = settings.bind
        self.endpoints: list[str] = []
        """Where it really listens: a bind to port `*` gets a free one."""
        self._context = zmq.Context()
        self._curve_key = Path(settings.curve_key) if settings.curve_key else None
        self._authorized_workers = Path(settings.authorized_workers or "")
        self._router: zmq.Socket[bytes] | None = None
        self._monitor: zmq.Socket[bytes] | None = None
        self._authenticator: AsyncioAuthenticator | None = None
        self._tickets: dict[str, JobTicket] = {}
        self._finding_out: dict[float, bool] = {}
        """Delays after which somebody is going to find out who has gone; true: and once more."""
        self._tick_handle: asyncio.TimerHandle | None = None
        self._ticked_at = 0.0
        self._tick_began_at = 0.0

    # --- life cycle ------------------------------------------------------------------------

    async def start(self) -> None:
        """Bind and begin.

        Raises:
            zmq.ZMQError: an endpoint is taken or malformed.
        """
        self._loop = asyncio.get_running_loop()
        if self._curve_key is not None:
            self._start_authenticator()
        self._router = make_router(self._context, self._curve_key)
        for endpoint in self._binds:
            self.endpoints.append(bind(self._router, endpoint))
        self._monitor = self._router.get_monitor_socket(WATCHED_EVENTS)
        self._loop.add_reader(self._router.FD, self._receive)
        self._loop.add_reader(self._monitor.FD, self._connection_changed)
        self._drain_monitor()
        self._tick()

    async def stop(self) -> None:
        if self._router is None:
            return
        self._loop.remove_reader(self._router.FD)
        if self._monitor is not None:
            self._loop.remove_reader(self._monitor.FD)
        if self._tick_handle is not None:
            self._tick_handle.cancel()
        self._router.disable_monitor()
        self._context.destroy(linger=200)
        self._router = None

    def _start_authenticator(self) -> None:
        from gateway.dispatch.curve import start_authenticator

        self._authenticator = start_authenticator(self._context, self._authorized_workers)

    def read_authorized_workers(self) -> None:
        """Read the folder of workers' keys again, where there is one."""
        if self._authenticator is not None:
            from gateway.dispatch.curve import read_keys

            read_keys(self._authenticator, self._authorized_workers)

    # --- requests --------------------------------------------------------------------------

    def reserve(self, request: GenerationRequest, request_id: str) -> JobTicket:
        try:
            return self._ticket(request, request_id)
        except QueueFull:
            self.statistics.refused(request.route, request.kind)
            raise

    def count(self, request: GenerationRequest, request_id: str) -> JobTicket:
        return self._ticket(request, request_id, only_counts=True)

    def _ticket(
        self, request: GenerationRequest, request_id: str, *, only_counts: bool = False
    ) -> JobTicket:
        job_id = secrets.token_hex(ID_BYTES)
        self._perform(Reserve(job_id, request_id, request, only_counts))
        model = request.model or self._core.view.jobs[job_id].pool
        ticket = self._tickets[job_id] = JobTicket(job_id, model, self._perform)
        return ticket

    def _perform(self, act: Act) -> None:
        effects = self._core.request(act, time.monotonic())
        if effects:
            self._carry_out(effects)
            self._look_again()

    def _order(self, worker: str, action: WorkerAction) -> bool:
        effects = self._core.request(Order(worker, action), time.monotonic())
        self._carry_out(effects)
        return bool(effects)

    # --- the wire --------------------------------------------------------------------------

    def _receive(self) -> None:
        """Read what is there. The socket's descriptor is edge-triggered, so reading goes on
        until nothing is left, in turns."""
        router = self._router
        if router is None:
            return
        now = began = time.monotonic()
        for _ in range(MAX_MESSAGES_A_TURN):
            if not readable(router):
                break
            frames = receive(router)
            self._take(frames[0], frames[1:], now)
            now = time.monotonic()
            if now - began > MAX_TURN_S:
                self._loop.call_soon(self._receive)
                break
        else:
            self._loop.call_soon(self._receive)

    def _take(self, routing_id: bytes, frames: list[bytes], now: float) -> None:
        try:
            message, _ = wire.decode(frames, FromWorker)
        except wire.ProtocolError as error:
            reason = "version" if isinstance(error, wire.VersionMismatch) else "malformed"
            self._count_dropped(reason, "dropped a message on the worker port: %s", error)
            return
        try:
            effects = self._core.message(routing_id, message, now)
        except Exception:
            # A boundary: whatever one message of one worker runs into, the others go on.
            log.exception("a message on the worker port has failed")
            self.statistics.dropped["failed"] += 1
        else:
            self._carry_out(effects)

    def _count_dropped(self, reason: str, words: str, *details: object) -> None:
        """Log the first of its kind only: strangers decide how many there are."""
        if self.statistics.dropped[reason] == 0:
            log.warning(words, *details)
        self.statistics.dropped[reason] += 1

    def _carry_out(self, effects: Sequence[Effect]) -> None:
        while effects:
            undelivered: list[Send] = []
            too_long: list[Send] = []
            for effect in effects:
                try:
                    self._do(effect, undelivered)
                except MessageTooLong:
                    assert isinstance(effect, Send)
                    too_long.append(effect)
                except Exception:
                    # A boundary: the effects after it belong to other requests.
                    log.exception("an effect could not be carried out")
            effects = ()
            if undelivered or too_long:
                now = time.monotonic()
                effects = self._core.undelivered(undelivered, now, too_long=too_long)

    def _do(self, effect: Effect, undelivered: list[Send]) -> None:
        if isinstance(effect, Tell):
            ticket = self._tickets.get(effect.job_id)
            if ticket is not None:
                ticket.tell(effect.events, effect.error)
        elif isinstance(effect, Ended):
            ticket = self._tickets.pop(effect.record.id, None)
            if ticket is not None:
                ticket.ended = True
            self.statistics.ended(effect.record)
        elif not self._sent(effect):
            undelivered.append(effect)

    def _sent(self, effect: Send) -> bool:
        if self._router is None:
            return True
        frames = [effect.routing_id, *wire.encode(effect.message)]
        try:
            send(self._router, frames, effect.images)
        except zmq.ZMQError as error:
            # EHOSTUNREACH: the peer is gone. EAGAIN: it has stopped reading, which is no better.
            log.debug("send failed: %s", error)
            return False
        return True

    def _look_again(self) -> None:
        """Sending may have swallowed the descriptor's edge for a message that came meanwhile."""
        if self._router is not None and readable(self._router):
            self._loop.call_soon(self._receive)

    def _connection_changed(self) -> None:
        """Some worker's connection broke; a ping to each finds out whose."""
        self._drain_monitor()
        for delay_s in FIND_OUT_AFTER_S:
            if delay_s in self._finding_out:
                # One round finds out about all who went before it, however many they are.
                self._finding_out[delay_s] = True
            else:
                self._finding_out[delay_s] = False
                self._loop.call_later(delay_s, self._find_out_who, delay_s)

    def _drain_monitor(self) -> None:
        """Its descriptor, too, is edge-triggered and armed by reading until nothing is left."""
        assert self._monitor is not None
        while True:
            try:
                event = parse_monitor_message(self._monitor.recv_multipart(zmq.NOBLOCK))
            except zmq.Again:
                return
            if event["event"] != zmq.EVENT_DISCONNECTED:
                self._count_refused()

    def _count_refused(self) -> None:
        if self._curve_key is not None:
            self._count_dropped(
                "refused_key", "refused a worker: its key is unknown, or it has none"
            )
        else:
            self._count_dropped(
                "bad_handshake",
                "refused a connection on the worker port: its greeting is none of ZeroMQ's, or it "
                "uses keys and this gateway has none (--curve-key)",
            )

    def _find_out_who(self, delay_s: float) -> None:
        """Read what a leaving worker has still said before its connection is judged."""
        if self._finding_out.pop(delay_s):
            self._finding_out[delay_s] = False
            self._loop.call_later(max(delay_s, TICK_S), self._find_out_who, delay_s)
        self._receive()
        self._carry_out(self._core.tick(time.monotonic(), somebody_gone=True))
        self._look_again()

    def _tick(self) -> None:
        self._tick_handle = self._loop.call_later(TICK_S, self._tick)
        began = time.monotonic()
        if self._tick_began_at:
            lag_s = began - self._tick_began_at - TICK_S
            self.statistics.metrics.event_loop_lagged(max(0.0, lag_s))
        self._tick_began_at = began
        self._receive()
        now = time.monotonic()
        stood_still = bool(self._ticked_at) and now - self._ticked_at > LATE_TICK_S
        self._ticked_at = now
        self._carry_out(self._core.tick(now, stood_still=stood_still))
        self._look_again()

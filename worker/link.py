"""The link thread: sockets to the gateways, slots, heartbeats. It never waits for the engine."""

from __future__ import annotations

import logging
import os
import platform
import queue
import secrets
import signal
import socket as network
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from types import FrameType
from typing import cast

import zmq

from shared import wire
from shared.messages import (
    FROM_GATEWAY,
    Accepted,
    Cancel,
    Cancelled,
    Control,
    CountedTokens,
    CountTokens,
    Delta,
    Deltas,
    Done,
    Failed,
    Goodbye,
    Heartbeat,
    Hello,
    Identify,
    Job,
    Message,
    Ping,
    Rejected,
    RejectReason,
    Submit,
    Welcome,
    WorkerState,
)
from shared.sockets import make_dealer, receive, send
from worker.loop import CountPrompt, Drop, EngineLoop, Output, Run
from worker.settings import Settings
from worker.slots import Slots

log = logging.getLogger(__name__)

INSTANCE_VARIABLE = "WORKER_INSTANCE"
"""Set by the supervisor, the same for all its engine processes."""

MISSED_PINGS = 3
POLL_MS = 100
MIN_NEWS_INTERVAL_S = 0.05
MAX_MESSAGES_A_TURN = 64
"""How many messages of one gateway are read before the others, and the engine's, get their turn."""

MAX_DELTAS_A_MESSAGE = 256
MAX_COUNTS = 16
"""Prompts that are counted, or wait to be, at once: they share threads with generations."""


class Ending(Enum):
    """Why the link has stopped: the engine process's way out."""

    LEAVE = "leave"
    RECYCLE = "recycle"


@dataclass
class Gateway:
    """One gateway's socket and what is known of it."""

    index: int
    endpoint: str
    socket: zmq.Socket[bytes]
    id: str = ""
    heartbeat_s: float = 1.0
    heard_at: float = 0.0
    beat_at: float = 0.0
    greeted_as: str = ""
    dropped: int = 0
    stale: bool = field(default=False)
    """Other gateways' jobs have changed what is free here since the last heartbeat."""


@dataclass
class Outbox:
    """What one gateway's jobs have brought since the last time."""

    accepted: list[Accepted] = field(default_factory=list)
    items: list[Delta] = field(default_factory=list)
    done: list[Done] = field(default_factory=list)

    def messages(self) -> Iterator[Deltas]:
        """One message, unless it would grow too long; none when there is nothing."""
        accepted, items = self.accepted, self.items
        while len(items) > MAX_DELTAS_A_MESSAGE:
            yield Deltas(items=items[:MAX_DELTAS_A_MESSAGE], accepted=accepted)
            accepted, items = [], items[MAX_DELTAS_A_MESSAGE:]
        if accepted or items or self.done:
            yield Deltas(items=items, accepted=accepted, done=self.done)


class Link:
    """Runs on the main thread, so that signals are handled while the engine computes.

    Args:
        report: called about five times a second; tells the supervisor that this thread lives.
    """

    def __init__(self, settings: Settings, name: str, report: Callable[[], None]) -> None:
        self.settings = settings
        self.name = name
        self.slots = Slots(settings.max_concurrency, settings.max_streams)
        self.counts: dict[str, int] = {}
        """The prompts being counted, and for which gateway."""
        self.loop: EngineLoop | None = None
        self._report = report
        self._context = zmq.Context()
        self._gateways = [self._connect(i, e) for i, e in enumerate(settings.gateway)]
        self._outputs: queue.SimpleQueue[list[Output]] = queue.SimpleQueue()
        self._wake_read, self._wake_write = os.pipe()
        os.set_blocking(self._wake_write, False)
        os.set_blocking(self._wake_read, False)
        self._drain_until: float | None = None
        self._ending = Ending.LEAVE
        self._paused = False
        self._served = 0

    # --- for the other threads -------------------------------------------------------------

    def publish(self, output: list[Output]) -> None:
        """Take what a step brought; called on the engine thread."""
        self._outputs.put(output)
        try:
            os.write(self._wake_write, b"\0")
        except BlockingIOError:
            pass

    # --- the thread ------------------------------------------------------------------------

    def run(self, loop: EngineLoop, engine_alive: Callable[[], bool]) -> Ending:
        """Serve until drained or until the engine thread has died."""
        self.loop = loop
        signal.signal(signal.SIGTERM, self._on_signal)
        signal.signal(signal.SIGINT, self._on_signal)
        poller = zmq.Poller()
        poller.register(self._wake_read, zmq.POLLIN)
        for gateway in self._gateways:
            poller.register(gateway.socket, zmq.POLLIN)
        while True:
            if not engine_alive():
                # As if the process had died: its jobs may be to blame and must be seen to be.
                return self._ending
            poller.poll(POLL_MS)
            now = time.monotonic()
            self._send_outputs()
            for gateway in self._gateways:
                self._receive(gateway, now)
                self._keep_alive(gateway, now)
            self._report()
            self._maybe_recycle(now)
            if self._drained(now):
                break
        self._leave()
        return self._ending

    @property
    def state(self) -> WorkerState:
        assert self.loop is not None
        if self._drain_until is not None or self._paused:
            return "draining"
        return self.loop.progress.state

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self._drain(Ending.LEAVE)

    def _drain(self, ending: Ending) -> None:
        if self._drain_until is None:
            self._ending = ending
            self._drain_until = time.monotonic() + self.settings.drain_timeout
            for gateway in self._gateways:
                gateway.beat_at = 0.0

    def _drained(self, now: float) -> bool:
        return self._drain_until is not None and (len(self.slots) == 0 or now >= self._drain_until)

    def _maybe_recycle(self, now: float) -> None:
        assert self.loop is not None
        after, limit_gib = self.settings.recycle_after_requests, self.settings.recycle_memory_gib
        memory = self.loop.progress.gauges.get("memory_bytes", 0.0)
        if (after and self._served >= after) or (limit_gib and memory > limit_gib * 1024**3):
            if self._drain_until is None:
                log.info("worker %s restarts its engine to stay fresh", self.name)
            self._drain(Ending.RECYCLE)

    def _leave(self) -> None:
        for gateway in self._gateways:
            for job_id in self.slots.jobs_of(gateway.index):
                self._send(gateway, Rejected(job=job_id, reason="draining"))
            self._send(gateway, Goodbye(returning=self._ending is Ending.RECYCLE))
        self._context.destroy(linger=500)

    # --- gateways --------------------------------------------------------------------------

    def _connect(self, index: int, endpoint: str) -> Gateway:
        settings = self.settings
        dealer = make_dealer(
            self._context,
            secrets.token_bytes(16),
            Path(settings.worker_key) if settings.worker_key else None,
            Path(settings.gateway_key) if settings.gateway_key else None,
        )
        dealer.connect(endpoint)
        return Gateway(index, endpoint, dealer)

    def _keep_alive(self, gateway: Gateway, now: float) -> None:
        """Say hello until welcomed, then heartbeats; give up jobs of a gateway gone silent."""
        if gateway.id and now - gateway.heard_at > MISSED_PINGS * gateway.heartbeat_s:
            log.warning("gateway %s has fallen silent; its jobs are dropped", gateway.endpoint)
            self._forget(gateway)
        interval = MIN_NEWS_INTERVAL_S if gateway.stale else gateway.heartbeat_s
        changed = gateway.greeted_as != self.state
        if now - gateway.beat_at < interval and not changed:
            return
        gateway.beat_at = now
        if gateway.id and gateway.greeted_as == "loading" and self.state == "ready":
            # Only now is it known what the model can do.
            gateway.id = ""
        if gateway.id:
            gateway.greeted_as = self.state
            gateway.stale = False
            self._send(gateway, self._heartbeat(gateway))
        elif cast(int, gateway.socket.get(zmq.EVENTS)) & zmq.POLLOUT:
            gateway.greeted_as = self.state
            self._send(gateway, self._hello())

    def _forget(self, gateway: Gateway) -> None:
        gateway.id = ""
        gateway.greeted_as = ""
        for job_id in self.slots.jobs_of(gateway.index):
            self._drop(job_id)
        # The engine counts them to the end; its answers find nobody.
        self.counts = {job: index for job, index in self.counts.items() if index != gateway.index}

    def _hello(self) -> Hello:
        assert self.loop is not None
        facts = self.loop.progress.facts
        settings = self.settings
        return Hello(
            worker=self.name,
            instance=os.environ.get(INSTANCE_VARIABLE, ""),
            models=list(settings.model_names),
            slots=settings.max_concurrency,
            stream_slots=settings.max_streams,
            state=self.state,
            device=facts.device if facts else "",
            context_tokens=facts.context_tokens if facts else None,
            vision=facts.vision if facts else True,
            stall_timeout_s=settings.stall_timeout,
            pid=os.getpid(),
            host=network.gethostname(),
            versions={"python": platform.python_version(), **(facts.versions if facts else {})},
            counts=True,
        )

    def _heartbeat(self, gateway: Gateway) -> Heartbeat:
        assert self.loop is not None
        progress = self.loop.progress
        return Heartbeat(
            state=self.state,
            loaded_fraction=progress.loaded_fraction,
            free_slots=self.slots.free(stream=False),
            free_stream_slots=self.slots.free(stream=True),
            jobs=self.slots.jobs_of(gateway.index, stream=False),
            streams=self.slots.jobs_of(gateway.index, stream=True),
            active=len(self.slots),
            steps=progress.steps,
            last_step_age_s=progress.age_s(),
            memory_bytes=int(progress.gauges.get("memory_bytes", 0)),
            gauges=progress.gauges,
        )

    # --- messages --------------------------------------------------------------------------

    def _receive(self, gateway: Gateway, now: float) -> None:
        for _ in range(MAX_MESSAGES_A_TURN):
            try:
                frames = receive(gateway.socket)
            except zmq.Again:
                return
            try:
                message, images = wire.decode(frames, FROM_GATEWAY)
            except wire.ProtocolError as error:
                gateway.dropped += 1
                if gateway.dropped == 1:
                    log.warning("dropped a message from %s: %s", gateway.endpoint, error)
                continue
            gateway.heard_at = now
            self._handle(gateway, message, [bytes(image) for image in images])

    def _handle(self, gateway: Gateway, message: Message, images: list[bytes]) -> None:
        match message:
            case Submit():
                self._submit(gateway, message, images)
            case CountTokens():
                self._count(gateway, message, images)
            case Cancel():
                for job_id in message.jobs:
                    self._cancel(gateway, job_id)
            case Welcome():
                gateway.id, gateway.heartbeat_s = message.gateway, message.heartbeat_s
                gateway.beat_at = 0.0
            case Ping():
                if gateway.id and message.gateway != gateway.id:
                    self._forget(gateway)
            case Identify():
                self._forget(gateway)
                gateway.beat_at = 0.0
            case Control():
                self._control(message)

    def _submit(self, gateway: Gateway, message: Submit, images: list[bytes]) -> None:
        assert self.loop is not None
        job = message.job
        reason = self._unfit(job)
        if reason is None and not self.slots.take(job.id, gateway.index, stream=job.stream):
            reason = "no_slot"
        if reason is not None:
            self._send(gateway, Rejected(job=job.id, reason=reason))
            return
        self._mark_stale(gateway)
        self.loop.put(Run(job, images))

    def _count(self, gateway: Gateway, message: CountTokens, images: list[bytes]) -> None:
        assert self.loop is not None
        job = message.job
        reason = self._unfit(job)
        taken = job.id in self.counts or self.slots.holder(job.id) is not None
        if reason is None and (taken or len(self.counts) >= MAX_COUNTS):
            reason = "no_slot"
        if reason is not None:
            self._send(gateway, Rejected(job=job.id, reason=reason))
            return
        self.counts[job.id] = gateway.index
        self.loop.put(CountPrompt(job, images))

    def _unfit(self, job: Job) -> RejectReason | None:
        """Why no job, or not this one, can be taken now, slots apart."""
        if self.state != "ready":
            return "loading" if self.state == "loading" else "draining"
        return None if job.model in self.settings.model_names else "unknown_model"

    def _cancel(self, gateway: Gateway, job_id: str) -> None:
        if self.slots.holder(job_id) == gateway.index:
            assert self.loop is not None
            self.loop.put(Drop(job_id))
        else:
            self._send(gateway, Cancelled(job=job_id))

    def _drop(self, job_id: str) -> None:
        assert self.loop is not None
        self.loop.put(Drop(job_id))

    def _control(self, message: Control) -> None:
        log.info("worker %s is told to %s", self.name, message.action)
        if message.action == "restart":
            self._drain(Ending.RECYCLE)
        else:
            self._paused = message.action == "drain"

    def _send_outputs(self) -> None:
        """Send what the engine has brought: one message for each gateway, if all went well."""
        try:
            while os.read(self._wake_read, 4096):
                pass
        except BlockingIOError:
            pass
        waiting: defaultdict[int, Outbox] = defaultdict(Outbox)
        while not self._outputs.empty():
            for event in self._outputs.get():
                self._take_output(event, waiting)
        for index, outbox in waiting.items():
            self._send_outbox(self._gateways[index], outbox)

    def _take_output(self, event: Output, waiting: defaultdict[int, Outbox]) -> None:
        holder = self.slots.holder(event.job)
        if holder is None:
            self._take_count(event)
            return
        gateway, outbox = self._gateways[holder], waiting[holder]
        if isinstance(event, Accepted):
            outbox.accepted.append(event)
        elif isinstance(event, Delta):
            outbox.items.append(event)
        else:
            self.slots.release(event.job)
            self._served += isinstance(event, Done | Failed)
            self._mark_stale(gateway)
            if isinstance(event, Done):
                outbox.done.append(event)
            else:
                self._send_outbox(gateway, waiting.pop(holder))
                self._send(gateway, event)

    def _take_count(self, event: Output) -> None:
        asker = self.counts.pop(event.job, None)
        if asker is not None and isinstance(event, CountedTokens | Failed):
            self._send(self._gateways[asker], event)

    def _send_outbox(self, gateway: Gateway, outbox: Outbox) -> None:
        for message in outbox.messages():
            self._send(gateway, message)

    def _mark_stale(self, cause: Gateway) -> None:
        for gateway in self._gateways:
            if gateway is not cause:
                gateway.stale = True

    def _send(self, gateway: Gateway, message: Message) -> None:
        try:
            send(gateway.socket, wire.encode(message))
        except zmq.Again:
            log.debug("gateway %s is not reachable", gateway.endpoint)

"""The link thread: jobs in, answers out, between the gateways and the engine's thread.

It never waits for the engine.
"""

from __future__ import annotations

import logging
import time
from collections import defaultdict
from collections.abc import Callable

import msgspec
import zmq

from shared.messages import (
    Accepted,
    Cancel,
    Cancelled,
    Control,
    CountedTokens,
    CountTokens,
    Delta,
    Done,
    Failed,
    Goodbye,
    Heartbeat,
    Identify,
    Job,
    M,
    Message,
    Ping,
    Rejected,
    RejectReason,
    Submit,
    Welcome,
    WorkerState,
)
from worker.awake_clock import AwakeClock
from worker.compute_watch import MOST_STALLS, ComputeWatch
from worker.link import announcements
from worker.link.connection import GatewayConnection
from worker.link.delta_batch import DeltaBatch
from worker.link.draining import Draining, Ending
from worker.link.engine_outputs import EngineOutputs
from worker.link.slots import Slots
from worker.loop import CountPrompt, Drop, EngineLoop, Output, Progress, Run
from worker.settings import Settings

log = logging.getLogger(__name__)

POLL_MS = 100
LINGER_MS = 500
MAX_FAILURE_CHARACTERS = 4_000
"""A template's own words of refusal may quote the whole prompt."""
MAX_COUNTS = 16
"""Prompts that are counted, or wait to be, at once: they share threads with generations."""


class Link:
    """Runs on the main thread, so that its process hears signals while the engine computes.

    Args:
        loop: takes the jobs; what it publishes comes through `outputs`.
        report: called at every turn; tells the supervisor that this thread lives.
    """

    def __init__(
        self,
        settings: Settings,
        name: str,
        loop: EngineLoop,
        outputs: EngineOutputs,
        report: Callable[[], None],
    ) -> None:
        self.slots = Slots(settings.max_concurrency, settings.max_streams)
        self._settings = settings
        self._name = name
        self._loop = loop
        self._outputs = outputs
        self._report = report
        self._draining = Draining(settings)
        self._counts: dict[str, int] = {}
        """The prompts being counted, and for which gateway."""
        self._served = 0
        self._clock = AwakeClock()
        self._compute_watch = ComputeWatch()
        self._context = zmq.Context()
        self._poller = zmq.Poller()
        self._gateways = [
            GatewayConnection.open(self._context, index, endpoint, settings)
            for index, endpoint in enumerate(settings.gateway)
        ]

    def run(self, engine_alive: Callable[[], bool]) -> Ending:
        """Serve until drained or until the engine thread has died; then the sockets are closed."""
        self._poller.register(self._outputs.wake_read, zmq.POLLIN)
        for gateway in self._gateways:
            self._poller.register(gateway.socket, zmq.POLLIN)
        while True:
            if not engine_alive():
                # As if the process had died: its jobs may be to blame and must be seen to be.
                self._context.destroy(linger=0)
                return self._draining.ending
            self._poller.poll(POLL_MS)
            now = self._clock.look()
            self._note_progress()
            self._send_outputs()
            for gateway in self._gateways:
                for message, images in gateway.messages(now):
                    self._handle(gateway, message, images)
                self._keep_alive(gateway, now)
            self._report()
            memory_bytes = self._loop.progress.gauges.get("memory_bytes", 0.0)
            self._draining.recycle_if_due(self._served, memory_bytes)
            if self._draining.over(len(self.slots), time.monotonic()):
                break
        self._leave()
        return self._draining.ending

    def drain(self, *, when_idle: bool = False) -> None:
        """Take no more jobs and leave when those that run have ended; signal handlers call it.

        Args:
            when_idle: however long they take; else what has not ended in time is handed over.
        """
        self._draining.begin(Ending.LEAVE, when_idle=when_idle)

    def _note_progress(self) -> None:
        """What shows from outside that a step which takes its time is none that hangs."""
        progress = self._loop.progress
        if self._compute_watch.computed():
            now = time.monotonic()
            if now - progress.turned_at < MOST_STALLS * self._settings.stall_timeout:
                progress.computed_at = now

    @property
    def _state(self) -> WorkerState:
        return "draining" if self._draining.refuses else self._loop.progress.state

    def _leave(self) -> None:
        for gateway in self._gateways:
            for job_id in self.slots.jobs_of(gateway.index):
                gateway.send(Rejected(job=job_id, reason="draining"))
            gateway.send(Goodbye(returning=self._draining.ending is Ending.RECYCLE))
        self._context.destroy(linger=LINGER_MS)

    def _keep_alive(self, gateway: GatewayConnection, now: float) -> None:
        if gateway.has_fallen_silent(now):
            log.warning("gateway %s has fallen silent; its jobs are dropped", gateway.endpoint)
            self._forget(gateway)
        if gateway.is_dead(now):
            self._poller.unregister(gateway.socket)
            gateway.rebuild(now)
            self._poller.register(gateway.socket, zmq.POLLIN)
        progress = self._loop.progress
        match gateway.due(self._state, now):
            case "hello":
                gateway.send(announcements.hello(self._settings, self._name, self._state, progress))
            case "heartbeat":
                gateway.send(self._heartbeat(gateway, progress))

    def _heartbeat(self, gateway: GatewayConnection, progress: Progress) -> Heartbeat:
        return announcements.heartbeat(
            gateway=gateway.index,
            gateways=sum(bool(each.id) for each in self._gateways),
            state=self._state,
            slots=self.slots,
            counting=[job for job, index in self._counts.items() if index == gateway.index],
            progress=progress,
        )

    def _forget(self, gateway: GatewayConnection) -> None:
        gateway.forget()
        for job_id in self.slots.jobs_of(gateway.index):
            self._loop.put(Drop(job_id))
        # The engine counts them to the end; its answers find nobody.
        self._counts = {job: index for job, index in self._counts.items() if index != gateway.index}

    # --- in ------------------------------------------------------------------------------------

    def _handle(self, gateway: GatewayConnection, message: Message, images: list[bytes]) -> None:
        match message:
            case Submit():
                self._submit(gateway, message, images)
            case CountTokens():
                self._count(gateway, message.job, images)
            case Cancel():
                for job_id in message.jobs:
                    self._cancel(gateway, job_id)
            case Welcome():
                gateway.welcomed(message)
            case Ping():
                if gateway.id and message.gateway != gateway.id:
                    self._forget(gateway)
            case Identify():
                self._forget(gateway)
                gateway.greet_at_once()
            case Control():
                self._obey(message)

    def _submit(self, gateway: GatewayConnection, message: Submit, images: list[bytes]) -> None:
        job = message.job
        reason = self._unfit(job)
        if reason is None and not self.slots.take(job.id, gateway.index, stream=job.stream):
            reason = "no_slot"
        if reason is not None:
            gateway.send(Rejected(job=job.id, reason=reason))
            return
        self._mark_stale(gateway)
        self._loop.put(Run(job, images, time.monotonic() + message.budget_s))

    def _count(self, gateway: GatewayConnection, job: Job, images: list[bytes]) -> None:
        reason = self._unfit(job)
        taken = job.id in self._counts or self.slots.holder(job.id) is not None
        if reason is None and (taken or len(self._counts) >= MAX_COUNTS):
            reason = "no_slot"
        if reason is not None:
            gateway.send(Rejected(job=job.id, reason=reason))
            return
        self._counts[job.id] = gateway.index
        self._loop.put(CountPrompt(job, images))

    def _unfit(self, job: Job) -> RejectReason | None:
        """Why no job, or not this one, can be taken now, slots apart."""
        if self._state != "ready":
            return "loading" if self._state == "loading" else "draining"
        return None if job.model in self._settings.model_names else "unknown_model"

    def _cancel(self, gateway: GatewayConnection, job_id: str) -> None:
        if self.slots.holder(job_id) == gateway.index:
            self._loop.put(Drop(job_id))
        else:
            gateway.send(Cancelled(job=job_id))

    def _obey(self, control: Control) -> None:
        log.info("worker %s is told to %s", self._name, control.action)
        if control.action == "restart":
            self._draining.begin(Ending.RECYCLE)
        else:
            self._draining.paused = control.action == "drain"

    # --- out -----------------------------------------------------------------------------------

    def _send_outputs(self) -> None:
        """Send what the engine has brought: one message for each gateway, if all went well."""
        waiting: defaultdict[int, DeltaBatch] = defaultdict(DeltaBatch)
        for event in self._outputs.take():
            self._take_output(event, waiting)
        for index, batch in waiting.items():
            self._send_batch(self._gateways[index], batch)

    def _take_output(self, event: Output, waiting: defaultdict[int, DeltaBatch]) -> None:
        holder = self.slots.holder(event.job)
        if holder is None:
            self._take_count(event)
            return
        gateway, batch = self._gateways[holder], waiting[holder]
        if isinstance(event, Accepted):
            batch.accepted.append(event)
        elif isinstance(event, Delta):
            batch.items.append(event)
        else:
            self.slots.release(event.job)
            self._served += isinstance(event, Done | Failed)
            self._mark_stale(gateway)
            if isinstance(event, Done):
                batch.done.append(event)
            else:
                self._send_batch(gateway, waiting.pop(holder))
                gateway.send(_sendable(event))

    def _take_count(self, event: Output) -> None:
        asker = self._counts.pop(event.job, None)
        if asker is not None and isinstance(event, CountedTokens | Failed):
            self._gateways[asker].send(_sendable(event))

    def _send_batch(self, gateway: GatewayConnection, batch: DeltaBatch) -> None:
        for message in batch.messages():
            gateway.send(message)

    def _mark_stale(self, cause: GatewayConnection) -> None:
        for gateway in self._gateways:
            gateway.stale = gateway.stale or gateway is not cause


def _sendable(event: M) -> M:
    if isinstance(event, Failed) and len(event.message) > MAX_FAILURE_CHARACTERS:
        return msgspec.structs.replace(event, message=event.message[:MAX_FAILURE_CHARACTERS])
    return event

"""All jobs of this gateway and where each of them stands; the moves from one phase to the next.

A move only marks the pools it concerns. `Core` calls `refit` and `pump` when an entry has done all
its moves, so that a slot which several of them have changed is given away once, and rightly.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Sequence

import msgspec

from gateway.dispatch.core.acts import Prepare, Reserve
from gateway.dispatch.core.admission import Admission, Verdict
from gateway.dispatch.core.catalogues.hosts import Hosts
from gateway.dispatch.core.catalogues.refusals import check_loads, not_loaded_in_time
from gateway.dispatch.core.changes import Changes
from gateway.dispatch.core.effects import Effect, Ended, Send, Tell
from gateway.dispatch.core.jobs import (
    KINDS,
    MAX_DEATHS,
    ChoiceProgress,
    JobRecord,
    Kind,
    Milestones,
    Outcome,
    Phase,
)
from gateway.dispatch.core.refusals import (
    MANY_COUNTS_RETRY_S,
    deadline_passed,
    nobody_counts,
    not_finished,
    not_served,
    several_served,
    workers_lost,
)
from gateway.dispatch.core.routing import choose
from gateway.dispatch.core.sessions import Registry, Session
from gateway.errors import ApiError, QueueFull
from gateway.generation import Event
from shared.messages import Cancel, CountTokens, Message, RejectReason, Submit

RetryAfter = Callable[[bool, int, int], float]
"""Estimates, for (is it a stream, jobs ahead, slots), in how many seconds to come back."""


class Dispatcher:
    """
    Args:
        queue_timeout_s: the longest time from arrival to the last token of a non-streaming answer
            or to a prompt's count; of a stream, to its first token and between two.
        stream_wait_s: the longest that a stream waits for a slot, within that time.
    """

    def __init__(
        self,
        admission: Admission,
        registry: Registry,
        hosts: Hosts,
        changes: Changes,
        queue_timeout_s: float,
        retry_after: RetryAfter,
        stream_wait_s: float,
    ) -> None:
        self.jobs: dict[str, JobRecord] = {}
        self.effects: list[Effect] = []
        self._admission = admission
        self._registry = registry
        self._hosts = hosts
        self._changes = changes
        self._queue_timeout_s = queue_timeout_s
        self._retry_after = retry_after
        self._stream_wait_s = stream_wait_s
        self._runs: dict[str, JobRecord] = {}
        self._ready: dict[tuple[str, Kind], deque[JobRecord]] = {}

    # --- requests --------------------------------------------------------------------------

    def reserve(self, act: Reserve, now: float) -> None:
        """Take a slot or a place in the queue.

        Raises:
            NotFound: there are workers, none of which serves or lists that model.
            NoWorker: nobody serves it now; `code` is "loading" when somebody soon will.
            InvalidRequest: no model is named while several are served.
            ModelTooLarge, NoMemory, NoWorker: no host that lists it loads it.
            QueueFull: neither slot nor place is free.
        """
        request = act.request
        pool = self._pool_for(request.model, now)
        kind = _kind(act)
        unloaded = self._is_unloaded(pool)
        if unloaded:
            check_loads(pool, self._hosts.listing(pool))
        streams = self._hosts.offered(pool)[1] if unloaded and kind == "streaming" else 0
        verdict = self._admission.judge(pool, kind, streams_awaited=streams)
        if verdict is Verdict.REFUSE:
            raise self._queue_full(pool, kind)
        record = JobRecord(
            id=act.job_id,
            request_id=act.request_id,
            pool=pool,
            kind=kind,
            request_type=request.kind,
            route=request.route,
            at=Milestones(arrived_at=now),
            deadline_at=now + self._queue_timeout_s - request.waited_s,
            active=verdict is Verdict.SLOT,
        )
        if record.stream:
            wait_s = math.inf if unloaded else self._stream_wait_s - request.waited_s
            record.slot_by = now + wait_s
        if unloaded:
            self._changes.wanted.add(pool)
        if record.active:
            record.at.slot_at = now
        self._admission.enter(record)
        self.jobs[record.id] = record

    def prepared(self, act: Prepare, now: float) -> None:
        """The job can be dispatched as soon as its slot and a worker are there."""
        record = self.jobs.get(act.job_id)
        if record is None or record.phase is not Phase.PREPARING:
            return
        record.job, record.images = act.job, act.images
        if not record.only_counts:
            record.choices = [ChoiceProgress() for _ in range(act.job.choices)]
        record.at.submitted_at = now
        record.move(Phase.READY)
        if record.active:
            self._line_up(record)
        elif not record.stream:
            self._give_way(record.pool, now)

    def _give_way(self, pool: str, now: float) -> None:
        """Jobs that are ready take the slots of those whose pictures are slow to come."""
        ready = [r for r in self._admission.in_line(pool) if r.phase is Phase.READY]
        if not ready:
            return
        idle = [
            record
            for record in self.jobs.values()
            if record.pool == pool
            and record.kind == "non_streaming"
            and record.active
            and not record.has_claim(now)
        ]
        # The latest first, so that they stand in line in the order in which they came.
        for holder, waiter in zip(reversed(idle), ready, strict=False):
            self._admission.exchange(holder, waiter)
            holder.at.slot_at, waiter.at.slot_at = None, now
            self._line_up(waiter)

    def abandon(self, job_id: str, now: float) -> None:
        """The client has gone."""
        record = self.jobs.get(job_id)
        if record is not None:
            self.end(record, "cancelled", now)

    def end_overdue(self, now: float) -> None:
        """End the jobs whose deadline has passed, and streams that have waited long enough."""
        for pool in {record.pool for record in self.jobs.values() if not record.active}:
            self._give_way(pool, now)
        for record in list(self.jobs.values()):
            if record.waits_in_vain(now):
                self.fail(record, self._queue_full(record.pool, record.kind), now)
            elif now >= record.deadline_at:
                self.fail(record, self._too_late(record), now, outcome="timed_out")

    def _too_late(self, record: JobRecord) -> ApiError:
        if record.session is None and self._is_unloaded(record.pool):
            options = self._hosts.listing(record.pool)
            return not_loaded_in_time(record.pool, options, self._queue_timeout_s)
        return deadline_passed(record, self._queue_timeout_s)

    def nobody_serves(self, pool: str, now: float) -> None:
        """Nobody serves that model any more: whoever waits for it is told at once."""
        if not self._hosts.lists(pool):
            self.fail_waiting(pool, lambda: not_served(pool, self._registry, self._hosts, now), now)

    def fail_waiting(self, pool: str, error: Callable[[], ApiError], now: float) -> None:
        """End all jobs that wait for that model, each with an error of its own."""
        for record in list(self.jobs.values()):
            if record.pool == pool and record.session is None:
                self.fail(record, error(), now)

    def is_waited_for(self, pool: str) -> bool:
        """Whether a job for that model is with no worker."""
        return any(r.pool == pool and r.session is None for r in self.jobs.values())

    def pools_waited_for(self) -> set[str]:
        return {record.pool for record in self.jobs.values() if record.session is None}

    def _is_unloaded(self, pool: str) -> bool:
        """Whether some host lists that model, and nobody has it."""
        return (
            self._hosts.lists(pool)
            and not self._admission.has_slots(pool)
            # Other gateways may hold all that there are.
            and not self._registry.serves(pool)
        )

    # --- settling --------------------------------------------------------------------------

    def refit(self, pool: str) -> None:
        """The pool's workers have changed: adjust its capacity."""
        self._admission.resize(pool, *self._registry.capacity(pool))

    def pump(self, pool: str, now: float) -> None:
        """Give away the pool's free slots, then send its ready jobs while workers have room."""
        for record in self._admission.promote(pool, now):
            record.at.slot_at = now
            if record.phase is Phase.READY:
                self._line_up(record)
        for kind in KINDS if self._ready else ():
            line = self._ready.get((pool, kind))
            if line is not None:
                self._send_ready(line, now)
                if not line:
                    del self._ready[pool, kind]

    def _send_ready(self, line: deque[JobRecord], now: float) -> None:
        """Send as many as there is room for, in order, past those that are on hold."""
        candidates = self._registry.dispatchable(line[0].pool)
        held: list[JobRecord] = []
        while line:
            record = line.popleft()
            if record.phase is not Phase.READY or record.job is None:
                continue
            if record.on_hold:
                held.append(record)
                continue
            session = choose(record.job, record.kind, candidates)
            if session is not None:
                self._dispatch(record, session, now)
            elif record.waits_in_vain(now):
                self.fail(record, self._queue_full(record.pool, record.kind), now)
            elif record.only_counts and candidates and not any(s.hello.counts for s in candidates):
                self.fail(record, nobody_counts(), now)
            else:
                line.appendleft(record)
                break
        line.extendleft(reversed(held))

    def _dispatch(self, record: JobRecord, session: Session, now: float) -> None:
        """Send it under an id of its own for this run, so that what an earlier run still has to
        say can never be taken for news of this one."""
        assert record.job is not None
        record.move(Phase.DISPATCHED)
        record.runs += 1
        record.overtaken = False
        record.run_id = f"{record.id}.{record.runs}"
        record.session, record.worker = session.routing_id, session.name
        record.next_sequence = record.run_tokens = 0
        record.run_at = now
        record.at.dispatched_at = record.at.dispatched_at or now
        session.take(record.run_id, record.kind)
        self._runs[record.run_id] = record
        # An engine that was loaded before its catalogue changed does not know the newest aliases.
        model = record.job.model if record.job.model in session.hello.models else session.pool
        message: Message
        if record.only_counts:
            job = msgspec.structs.replace(record.job, id=record.run_id, model=model)
            message = CountTokens(job=job)
        else:
            resume = record.resume_points()
            record.migrations += bool(resume)
            job = msgspec.structs.replace(record.job, id=record.run_id, resume=resume, model=model)
            message = Submit(job=job, budget_s=max(0.0, record.deadline_at - now))
        self.effects.append(Send(session.routing_id, message, record.images))

    # --- moves -----------------------------------------------------------------------------

    def live_job(self, session: Session, run_id: str) -> JobRecord | None:
        """The live job of that run, if it is this session's."""
        record = self._runs.get(run_id)
        if record is None or record.session != session.routing_id:
            return None
        return record

    def take_back(self, session: Session, run_id: str) -> JobRecord | None:
        """That session does not have the run any more, or never got it. Returns the run's live
        job, which is on no worker now and needs its next move."""
        record = self.live_job(session, run_id)
        session.release(run_id)
        if record is not None:
            self._leave_worker(record)
        return record

    def requeue(self, record: JobRecord) -> None:
        """Back to the head of the line; it keeps its slot in the pool."""
        self._stop_on_worker(record)
        record.move(Phase.READY)
        self._line_up(record, first=True)

    def run_again(
        self, record: JobRecord, now: float, *, rejected: RejectReason | None = None
    ) -> None:
        """Its run is given up: it goes on in another, unless that has brought nothing too often, or
        its deadline has passed, of which its worker may speak first."""
        record.give_up_run(now, rejected=rejected is not None)
        if now >= record.deadline_at:
            self.fail(record, self._too_late(record), now, outcome="timed_out")
        elif record.tried_too_often and rejected == "no_slot":
            self.fail(record, self._queue_full(record.pool, record.kind), now)
        elif record.tried_too_often:
            self.fail(record, not_finished(record), now)
        else:
            self.requeue(record)

    def fail(
        self, record: JobRecord, error: ApiError, now: float, outcome: Outcome = "failed"
    ) -> None:
        record.error_code = error.code
        self.effects.append(Tell(record.id, error=error))
        self.end(record, outcome, now)

    def end(self, record: JobRecord, outcome: Outcome, now: float) -> None:
        self._stop_on_worker(record)
        record.move(Phase.OVER)
        record.outcome, record.at.over_at = outcome, now
        record.images = ()
        del self.jobs[record.id]
        self._admission.leave(record)
        self.effects.append(Ended(record))

    def learn_fates(
        self, record: JobRecord, sessions: Sequence[bytes], now: float, *, died: bool
    ) -> None:
        """What became of sessions that were lost while they held this job."""
        for lost in sessions:
            record.lost.pop(lost, None)
            record.deaths += died
        if record.deaths >= MAX_DEATHS:
            self.fail(record, workers_lost(record), now)
        else:
            self._changes.stirred.add(record.pool)

    def tell(self, record: JobRecord, *events: Event) -> None:
        self.effects.append(Tell(record.id, events))

    def send(self, routing_id: bytes, message: Message) -> None:
        self.effects.append(Send(routing_id, message))

    def _line_up(self, record: JobRecord, *, first: bool = False) -> None:
        line = self._ready.setdefault((record.pool, record.kind), deque())
        if first:
            line.appendleft(record)
        else:
            line.append(record)
        self._changes.stirred.add(record.pool)

    def _leave_worker(self, record: JobRecord) -> None:
        self._runs.pop(record.run_id, None)
        record.session = None

    def _stop_on_worker(self, record: JobRecord) -> None:
        """Tell the worker that has it, if any, to drop it. The slot there stays counted until the
        worker confirms. A count cannot be stopped: the worker answers, and nobody listens."""
        if record.session is not None and not record.only_counts:
            self.send(record.session, Cancel(jobs=[record.run_id]))
        self._leave_worker(record)

    def _pool_for(self, model: str | None, now: float) -> str:
        hellos = self._registry.available_hellos()
        pools = {hello.models[0] for hello in hellos if not model or model in hello.models}
        if not model:
            pools |= self._hosts.pools
        elif not pools and (listed := self._hosts.pool_of(model)):
            return listed
        if not pools:
            raise not_served(model, self._registry, self._hosts, now)
        if len(pools) == 1:
            return pools.pop()
        if not model:
            raise several_served(pools)
        return min(sorted(pools), key=lambda name: self._admission.pool(name).active)

    def _queue_full(self, pool_name: str, kind: Kind) -> QueueFull:
        if kind == "counting":
            return QueueFull(retry_after_s=MANY_COUNTS_RETRY_S)
        pool = self._admission.pool(pool_name)
        stream = kind == "streaming"
        ahead = len(pool.line(stream))
        slots = pool.stream_slots if stream else pool.slots
        wait_s = self._retry_after(stream, ahead, max(1, slots))
        return QueueFull(retry_after_s=min(wait_s, self._queue_timeout_s))


def _kind(act: Reserve) -> Kind:
    if act.only_counts:
        return "counting"
    return "streaming" if act.request.stream else "non_streaming"

"""The heart of the gateway: requests, worker messages and the time go in, effects come out.

No socket, no task, no clock: every call takes `now` (monotonic seconds) where it needs it, and
what is to be sent or told is appended to `effects`, which the caller carries out and clears.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from gateway.dispatch.core.admission import Admission, Verdict
from gateway.dispatch.core.histograms import STEP_S, Histogram
from gateway.dispatch.core.jobs import (
    MAX_FRUITLESS_RUNS,
    ChoiceProgress,
    JobRecord,
    Milestones,
    Outcome,
    Phase,
)
from gateway.dispatch.core.refusals import deadline_passed, not_finished, not_served, worker_error
from gateway.dispatch.core.routing import choose
from gateway.dispatch.core.sessions import Registry, Session
from gateway.errors import ApiError, InvalidRequest, QueueFull
from gateway.generation import Event, GenerationRequest
from shared.messages import (
    Accepted,
    Cancel,
    Cancelled,
    Delta,
    Deltas,
    Done,
    Failed,
    Job,
    Message,
    Rejected,
    Submit,
)


class Send(msgspec.Struct, frozen=True):
    """A message for one worker session; `images` follow as frames."""

    routing_id: bytes
    message: Message
    images: Sequence[bytes] = ()


class Tell(msgspec.Struct, frozen=True):
    """News for the request's handler: an event, or the error that ends it."""

    job_id: str
    news: Event | ApiError


class Ended(msgspec.Struct, frozen=True):
    """A job is over; `record` has its outcome and milestones."""

    record: JobRecord


Effect = Send | Tell | Ended


class Dispatcher:
    """All jobs of this gateway and where each of them stands.

    Args:
        queue_size: most whole-answer jobs that may wait.
        queue_timeout_s: the deadline of design: from arrival to the last token of a whole
            answer, from arrival to the first token and between two tokens of a stream.
        registry: the workers; sessions are opened and closed by `membership`.
        retry_after: estimates, for (record kind is stream, jobs ahead, slots), when to come back.
    """

    def __init__(
        self,
        queue_size: int,
        queue_timeout_s: float,
        registry: Registry,
        retry_after: Callable[[bool, int, int], float],
    ) -> None:
        self.admission = Admission(queue_size)
        self.queue_timeout_s = queue_timeout_s
        self.registry = registry
        self.retry_after = retry_after
        self.jobs: dict[str, JobRecord] = {}
        self.runs: dict[str, JobRecord] = {}
        self.effects: list[Effect] = []
        self.token_gaps = Histogram(STEP_S)
        self._ready: dict[str, deque[JobRecord]] = {}
        self._handlers: dict[type[Any], Callable[[Session, Any, float], None]] = {
            Accepted: self._accepted,
            Rejected: self._rejected,
            Deltas: self._deltas,
            Done: self._done,
            Failed: self._failed,
            Cancelled: self._cancelled,
        }

    # --- requests --------------------------------------------------------------------------

    def resolve(self, model: str | None) -> tuple[str, str]:
        """Return (pool, the model's name) for the name a client gave.

        Raises:
            NotFound: there are workers, none of which serves it.
            NoWorker: nobody serves it now; `code` is "loading" when somebody soon will.
            InvalidRequest: left out while several models are served.
        """
        hellos = self.registry.available_hellos()
        serving = [h for h in hellos if not model or model in h.models]
        if not serving:
            raise not_served(model, self.registry)
        pools = sorted({hello.models[0] for hello in serving})
        if not model and len(pools) > 1:
            raise InvalidRequest(
                f"Several models are served; name one of: {', '.join(pools)}.", param="model"
            )
        pool = min(pools, key=lambda name: self.admission.pool(name).active)
        return pool, model or pool

    def reserve(
        self, job_id: str, request_id: str, request: GenerationRequest, pool: str, now: float
    ) -> JobRecord:
        """Take a slot or a place in the queue. Raises QueueFull when there is neither."""
        stream = request.stream
        verdict = self.admission.judge(pool, stream=stream)
        if verdict is Verdict.REFUSE:
            raise QueueFull(retry_after_s=self._retry_after(pool, stream))
        record = JobRecord(
            id=job_id,
            request_id=request_id,
            pool=pool,
            kind=request.kind,
            route=request.route,
            stream=stream,
            at=Milestones(arrived_at=now),
            deadline_at=now + self.queue_timeout_s,
            active=verdict is Verdict.SLOT,
        )
        if record.active:
            record.at.slot_at = now
        self.admission.enter(record)
        self.jobs[job_id] = record
        return record

    def submit(self, record: JobRecord, job: Job, images: Sequence[bytes], now: float) -> None:
        """The job is prepared: dispatch it as soon as its slot and a worker are there."""
        if record.phase is not Phase.PREPARING:
            return
        record.job, record.images = job, images
        record.choices = [ChoiceProgress() for _ in range(job.choices)]
        record.at.submitted_at = now
        record.move(Phase.READY)
        if record.active:
            self._line(record.pool).append(record)
            self.pump(record.pool, now)

    def cancel(self, record: JobRecord, now: float) -> None:
        """The client has gone. Idempotent."""
        if record.phase is not Phase.OVER:
            self.stop_on_worker(record)
            self._end(record, "cancelled", now)

    # --- workers ---------------------------------------------------------------------------

    def message(self, session: Session, message: Message, now: float) -> None:
        """Take a message about jobs; others are `membership`'s business."""
        handler = self._handlers.get(type(message))
        if handler is not None:
            handler(session, message, now)

    def refit(self, pool: str, now: float) -> None:
        """The pool's workers have changed: adjust its capacity and dispatch what now fits."""
        slots, stream_slots = self.registry.capacity(pool)
        self._activated(self.admission.resize(pool, slots, stream_slots), now)
        self.pump(pool, now)

    def pump(self, pool: str, now: float) -> None:
        """Send ready jobs while there is room; a kind without room does not hold up the other."""
        line = self._ready.get(pool)
        if not line:
            return
        kept: deque[JobRecord] = deque()
        full: set[bool] = set()
        while line and len(full) < 2:
            record = line.popleft()
            if record.phase is not Phase.READY:
                continue
            if record.on_hold:
                kept.append(record)
                continue
            session = None
            if record.stream not in full and record.job is not None:
                candidates = self.registry.dispatchable(pool)
                session = choose(record.job, candidates, stream=record.stream)
            if session is None:
                full.add(record.stream)
                kept.append(record)
            else:
                self._dispatch(record, session, now)
        kept.extend(line)
        if kept:
            self._ready[pool] = kept
        else:
            self._ready.pop(pool, None)

    def tick(self, now: float) -> None:
        """End the jobs whose deadline has passed: the latest first, so that none of them is given
        a slot that an earlier one leaves in the same moment."""
        for record in reversed(list(self.jobs.values())):
            if now < record.deadline_at:
                continue
            self.stop_on_worker(record)
            error = deadline_passed(record, self.queue_timeout_s)
            self.fail(record, error, now, outcome="timed_out")

    # --- what workers say ------------------------------------------------------------------

    def _accepted(self, session: Session, message: Accepted, now: float) -> None:
        record = self.on(session, message.job)
        if record is not None and record.phase is Phase.DISPATCHED:
            record.move(Phase.RUNNING)
            record.at.accepted_at = record.at.accepted_at or now
            record.prompt_tokens = message.prompt_tokens
            self.effects.append(Tell(record.id, message))

    def _rejected(self, session: Session, message: Rejected, now: float) -> None:
        record = self.on(session, message.job)
        session.release(message.job)
        if record is None:
            return
        # Another gateway was quicker, or it does not take any now; until its next heartbeat this
        # worker counts as full.
        self._mark_full(session, stream=record.stream)
        self.requeue(record)
        self.pump(record.pool, now)
        refused = message.reason == "no_slot" and record.at.accepted_at is None
        if refused and record.stream and record.phase is Phase.READY:
            error = QueueFull(retry_after_s=self._retry_after(record.pool, True))
            self.fail(record, error, now)

    def _deltas(self, session: Session, message: Deltas, now: float) -> None:
        for accepted in message.accepted:
            self._accepted(session, accepted, now)
        for delta in message.items:
            record = self.on(session, delta.job)
            if record is None:
                continue
            if delta.sequence != record.next_sequence or delta.choice >= len(record.choices):
                self._restart_after_gap(record, now)
                continue
            self._delta(session, record, delta, now)
        for done in message.done:
            self._done(session, done, now)

    def _delta(self, session: Session, record: JobRecord, delta: Delta, now: float) -> None:
        record.next_sequence += 1
        record.absorb(delta)
        session.tokens += len(delta.tokens)
        if delta.tokens:
            self._token_came(record.at, now)
        if record.stream:
            record.deadline_at = now + self.queue_timeout_s
        if record.overflows:
            self.stop_on_worker(record)
            self.fail(record, not_finished(record), now)
        else:
            self.effects.append(Tell(record.id, delta))

    def _token_came(self, at: Milestones, now: float) -> None:
        if at.last_token_at is None:
            at.first_token_at = now
        elif now > at.last_token_at:  # else it is another choice's token of the same step
            self.token_gaps.observe(now - at.last_token_at)
        at.last_token_at = now

    def _done(self, session: Session, message: Done, now: float) -> None:
        record = self.on(session, message.job)
        session.release(message.job)
        if record is None:
            self.pump(session.pool, now)
            return
        if any(choice.finish_reason is None for choice in record.choices):
            self._again(record, now)
            return
        session.finished += 1
        record.usage, record.timings = message.usage, message.timings
        self.effects.append(Tell(record.id, message))
        self._end(record, "finished", now)

    def _failed(self, session: Session, message: Failed, now: float) -> None:
        record = self.on(session, message.job)
        session.release(message.job)
        if record is None:
            self.pump(session.pool, now)
        else:
            self.fail(record, worker_error(message, record.request_id), now)

    def _cancelled(self, session: Session, message: Cancelled, now: float) -> None:
        """Who says so of a job that nobody has cancelled does not have it any more."""
        self.take_back(session, message.job, now)

    # --- moves -----------------------------------------------------------------------------

    def on(self, session: Session, run_id: str) -> JobRecord | None:
        """The live job of that run, if it is this session's."""
        record = self.runs.get(run_id)
        if record is None or record.session != session.routing_id:
            return None
        return record

    def _line(self, pool: str) -> deque[JobRecord]:
        return self._ready.setdefault(pool, deque())

    def _dispatch(self, record: JobRecord, session: Session, now: float) -> None:
        """Send it under an id of its own for this run, so that what an earlier run still has to
        say can never be taken for news of this one."""
        assert record.job is not None
        record.move(Phase.DISPATCHED)
        record.runs += 1
        record.fruitless_runs += 1
        record.run_id = f"{record.id}.{record.runs}"
        record.session, record.worker = session.routing_id, session.name
        record.next_sequence = 0
        record.at.dispatched_at = record.at.dispatched_at or now
        session.take(record.run_id, stream=record.stream)
        self.runs[record.run_id] = record
        resume = record.resume_points()
        record.migrations += bool(resume)
        job = msgspec.structs.replace(record.job, id=record.run_id, resume=resume)
        submit = Submit(job=job, budget_s=max(0.0, record.deadline_at - now))
        self.effects.append(Send(session.routing_id, submit, record.images))

    def requeue(self, record: JobRecord) -> None:
        """Back to the head of the line; it keeps its slot in the pool."""
        self.runs.pop(record.run_id, None)
        record.session = None
        record.move(Phase.READY)
        self._line(record.pool).appendleft(record)

    def take_back(self, session: Session, run_id: str, now: float) -> None:
        """The worker does not have it: run it again from what is known."""
        record = self.on(session, run_id)
        session.release(run_id)
        session.absent_beats.pop(run_id, None)
        if record is not None:
            self._again(record, now)
        self.pump(session.pool, now)

    def _again(self, record: JobRecord, now: float) -> None:
        """Run it again, unless that has brought nothing too often."""
        if record.fruitless_runs >= MAX_FRUITLESS_RUNS:
            self.fail(record, not_finished(record), now)
        else:
            self.requeue(record)
            self.pump(record.pool, now)

    def _restart_after_gap(self, record: JobRecord, now: float) -> None:
        """A message was lost: run it again from what is known."""
        self.stop_on_worker(record)
        self._again(record, now)

    def stop_on_worker(self, record: JobRecord) -> None:
        """Tell the worker to drop it. The slot there stays counted until the worker confirms."""
        if record.session is not None:
            self.effects.append(Send(record.session, Cancel(jobs=[record.run_id])))

    def fail(
        self, record: JobRecord, error: ApiError, now: float, outcome: Outcome = "failed"
    ) -> None:
        record.error_code = error.code
        self.effects.append(Tell(record.id, error))
        self._end(record, outcome, now)

    def _end(self, record: JobRecord, outcome: Outcome, now: float) -> None:
        record.move(Phase.OVER)
        record.outcome, record.at.over_at = outcome, now
        record.session, record.images = None, ()
        del self.jobs[record.id]
        self.runs.pop(record.run_id, None)
        self.effects.append(Ended(record))
        self._activated(self.admission.leave(record), now)
        self.pump(record.pool, now)

    def _activated(self, promoted: list[JobRecord], now: float) -> None:
        for record in promoted:
            record.at.slot_at = now
            if record.phase is Phase.READY:
                self._line(record.pool).append(record)

    @staticmethod
    def _mark_full(session: Session, *, stream: bool) -> None:
        if stream:
            session.other_streams += max(0, session.room(stream=True))
        else:
            session.others += max(0, session.room(stream=False))

    def _retry_after(self, pool_name: str, stream: bool) -> float:
        pool = self.admission.pool(pool_name)
        ahead = 0 if stream else len(pool.waiting)
        slots = pool.stream_slots if stream else pool.slots
        return min(self.retry_after(stream, ahead, max(1, slots)), self.queue_timeout_s)

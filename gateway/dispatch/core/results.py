"""What workers say of the runs they were given: taken, tokens, ends."""

from __future__ import annotations

from collections.abc import Callable
from itertools import groupby
from operator import attrgetter
from typing import Any

from gateway.dispatch.core.dispatcher import Dispatcher
from gateway.dispatch.core.histograms import STEP_S, Histogram
from gateway.dispatch.core.jobs import JobRecord, Milestones, Phase
from gateway.dispatch.core.refusals import not_finished, worker_error
from gateway.dispatch.core.sessions import Session
from shared.messages import (
    Accepted,
    Cancelled,
    CountedTokens,
    Delta,
    Deltas,
    Done,
    Failed,
    Message,
    Rejected,
)

RUN_OF = attrgetter("job")


class Results:
    """A message may be late, false or about another's job: whatever it says, it moves only a job
    that runs on the very session it comes from."""

    def __init__(self, dispatcher: Dispatcher, token_timeout_s: float) -> None:
        self.token_gaps = Histogram(STEP_S)
        self._dispatcher = dispatcher
        self._token_timeout_s = token_timeout_s
        self._handlers: dict[type[Any], Callable[[Session, Any, float], None]] = {
            Accepted: self._accepted,
            Rejected: self._rejected,
            Deltas: self._deltas,
            Done: self._done,
            Failed: self._failed,
            Cancelled: self._cancelled,
            CountedTokens: self._counted,
        }

    def message(self, session: Session, message: Message, now: float) -> None:
        handler = self._handlers.get(type(message))
        if handler is not None:
            handler(session, message, now)

    def _accepted(self, session: Session, message: Accepted, now: float) -> None:
        record = self._dispatcher.live_job(session, message.job)
        if record is None or record.phase is not Phase.DISPATCHED or record.only_counts:
            return
        record.move(Phase.RUNNING)
        record.at.accepted_at = record.at.accepted_at or now
        record.prompt_tokens = message.prompt_tokens
        self._dispatcher.tell(record, message)

    def _rejected(self, session: Session, message: Rejected, now: float) -> None:
        """Another gateway was quicker, or the worker is leaving."""
        record = self._dispatcher.take_back(session, message.job)
        if record is None:
            return
        session.full(record.kind)
        record.overtaken = (
            record.stream and message.reason == "no_slot" and record.at.accepted_at is None
        )
        self._dispatcher.run_again(record, now, rejected=message.reason)

    def _deltas(self, session: Session, message: Deltas, now: float) -> None:
        for accepted in message.accepted:
            self._accepted(session, accepted, now)
        for run_id, deltas in groupby(message.items, RUN_OF):
            record = self._dispatcher.live_job(session, run_id)
            if record is not None:
                self._brought(session, record, list(deltas), now)
        for done in message.done:
            self._done(session, done, now)

    def _brought(
        self, session: Session, record: JobRecord, deltas: list[Delta], now: float
    ) -> None:
        """Deltas of one job. They are told together: a whole answer's may all come at once."""
        tokens_before = record.completion_tokens
        good = record.absorb(deltas)
        tokens = record.completion_tokens - tokens_before
        if tokens:
            session.tokens += tokens
            self._token_came(record.at, now)
        if record.overflows:
            self._dispatcher.fail(record, not_finished(record), now)
            return
        if good:
            if record.kind == "streaming":
                record.deadline_at = now + self._token_timeout_s
            self._dispatcher.tell(record, *good)
        if len(good) < len(deltas):  # a message was lost, or says what cannot be
            self._dispatcher.run_again(record, now)

    def _token_came(self, at: Milestones, now: float) -> None:
        if at.last_token_at is None:
            at.first_token_at = now
        elif now > at.last_token_at:  # else it is another choice's token of the same step
            self.token_gaps.observe(now - at.last_token_at)
        at.last_token_at = now

    def _done(self, session: Session, message: Done, now: float) -> None:
        record = self._dispatcher.take_back(session, message.job)
        if record is None:
            return
        if not record.is_complete:
            self._dispatcher.run_again(record, now)
            return
        session.finished += 1
        record.usage, record.timings = message.usage, message.timings
        self._dispatcher.tell(record, message)
        self._dispatcher.end(record, "finished", now)

    def _failed(self, session: Session, message: Failed, now: float) -> None:
        record = self._dispatcher.take_back(session, message.job)
        if record is not None:
            self._dispatcher.fail(record, worker_error(message, record.request_id), now)

    def _cancelled(self, session: Session, message: Cancelled, now: float) -> None:
        """Who says so of a job that nobody has cancelled does not have it any more."""
        record = self._dispatcher.take_back(session, message.job)
        if record is not None:
            self._dispatcher.run_again(record, now)

    def _counted(self, session: Session, message: CountedTokens, now: float) -> None:
        record = self._dispatcher.live_job(session, message.job)
        if record is not None and not record.only_counts:
            return
        self._dispatcher.take_back(session, message.job)
        if record is not None:
            number = Accepted(job=record.id, prompt_tokens=message.prompt_tokens)
            self._dispatcher.tell(record, number)
            self._dispatcher.end(record, "finished", now)

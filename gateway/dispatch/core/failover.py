"""What happens to the jobs of a worker that is lost, cut off, dead, or has lost a message."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

from gateway.dispatch.core.dispatcher import Dispatcher
from gateway.dispatch.core.effects import Send
from gateway.dispatch.core.jobs import JobRecord, Phase, Whereabouts
from gateway.dispatch.core.refusals import job_too_large
from gateway.dispatch.core.sessions import HEARTBEAT_S, Registry, Session
from shared.messages import Cancel, Heartbeat, JobMessage

PATIENT_BEATS = 2
"""How many heartbeats running may lack a job before it counts as lost on its way."""

MISSING_AFTER_S = 1.3 * HEARTBEAT_S
"""A worker that is well has sent a heartbeat within this time."""

TAKEN_WITHIN_S = 1.0
"""An engine that makes steps takes a job so soon; one that is idle looks five times a second."""

ON_ITS_WAY_S = 1.5 * HEARTBEAT_S
"""For so long a job may be on its way to its worker, which cannot speak of it yet."""


class Failover:
    """Jobs go elsewhere at once; who is to blame is settled when the worker's fate is known."""

    def __init__(self, dispatcher: Dispatcher, registry: Registry) -> None:
        self._dispatcher = dispatcher
        self._registry = registry

    def lose(self, session: Session, now: float, *, blame: bool) -> None:
        """The session is gone, with all it held: every job goes elsewhere.

        `blame`: they may have brought it down. A worker that says goodbye has handed back all it
        held, so what still counts as being there never reached it.
        """
        for run_id in reversed([*session.outstanding, *session.counting]):
            record = self._dispatcher.take_back(session, run_id)
            if record is None:
                continue
            if blame and not record.only_counts and _may_have_had(session, record):
                record.lost[session.routing_id] = Whereabouts(
                    session.identity,
                    session.process,
                    run_id,
                    _seems_to_have_had(session, record, now),
                )
            self._dispatcher.run_again(record, now)

    def undelivered(self, sends: Sequence[Send]) -> None:
        """These jobs could not be sent: they go elsewhere, and blame neither them nor anybody."""
        for record in self._take_back_unsent(reversed(sends)):
            self._dispatcher.requeue(record)

    def too_long(self, sends: Sequence[Send], now: float) -> None:
        """These jobs are larger than any worker takes."""
        for record in self._take_back_unsent(sends):
            self._dispatcher.fail(record, job_too_large(record), now)

    def _take_back_unsent(self, sends: Iterable[Send]) -> Iterator[JobRecord]:
        for send in sends:
            session = self._registry.sessions.get(send.routing_id)
            if session is not None and isinstance(send.message, JobMessage):
                record = self._dispatcher.take_back(session, send.message.job.id)
                if record is not None:
                    yield record

    def forget(self, session: Session, now: float) -> None:
        """The worker has dropped what it held, and nobody died: it goes on, there or elsewhere."""
        for run_id in reversed([*session.outstanding, *session.counting]):
            if not self._on_its_way(session, run_id, now):
                record = self._dispatcher.take_back(session, run_id)
                if record is not None:
                    self._dispatcher.run_again(record, now)

    def absolve(self, routing_id: bytes, process: str, now: float) -> None:
        """A lost session, or its process, is heard of again: it was only cut off, and no job is to
        blame."""
        self._learn(
            now,
            lambda lost, where: lost == routing_id or where.process == process != "",
            died=False,
        )

    def confirm_death(
        self, worker: str, now: float, died_with: Sequence[str] | None = None
    ) -> None:
        """The worker has started anew, or has been gone for too long: its lost sessions died.

        `died_with`: the runs that it had begun by then; None: nobody knows, and all may be to
        blame that it seems to have had.
        """
        begun = None if died_with is None else frozenset(died_with)

        def had(where: Whereabouts) -> bool:
            return where.seems_had if begun is None else where.run_id in begun

        self._learn(now, lambda _, where: where.worker == worker and not had(where), died=False)
        self._learn(now, lambda _, where: where.worker == worker, died=True)

    def confirm_hang(self, routing_id: bytes, now: float) -> None:
        """The session's engine hangs, which is as bad as a death, even if it is heard of again."""
        self._learn(now, lambda lost, _: lost == routing_id, died=True)

    def reconcile(self, session: Session, beat: Heartbeat, now: float) -> None:
        """Compare with the runs a heartbeat says the worker holds, so that any lost message
        heals: unknown ones are cancelled there, missing ones go elsewhere. Unknown counts end by
        themselves."""
        held = {*beat.jobs, *beat.streams}
        strangers = [run_id for run_id in held if run_id not in session.outstanding]
        if strangers:
            self._dispatcher.send(session.routing_id, Cancel(jobs=strangers))
        expected = [*session.outstanding]
        if beat.counting is not None:
            held.update(beat.counting)
            expected += session.counting
        for run_id in reversed(expected):
            if run_id in held:
                session.absent_beats.pop(run_id, None)
                continue
            if self._on_its_way(session, run_id, now):
                continue
            beats = session.absent_beats[run_id] = session.absent_beats.get(run_id, 0) + 1
            if beats >= PATIENT_BEATS:
                record = self._dispatcher.take_back(session, run_id)
                if record is not None:
                    self._dispatcher.run_again(record, now)

    def _on_its_way(self, session: Session, run_id: str, now: float) -> bool:
        record = self._dispatcher.live_job(session, run_id)
        return (
            record is not None
            and record.phase is Phase.DISPATCHED
            and now - record.run_at < ON_ITS_WAY_S
        )

    def _learn(
        self, now: float, meant: Callable[[bytes, Whereabouts], bool], *, died: bool
    ) -> None:
        for record in list(self._dispatcher.jobs.values()):
            fates = [lost for lost, where in record.lost.items() if meant(lost, where)]
            if fates:
                self._dispatcher.learn_fates(record, fates, now, died=died)


def _may_have_had(session: Session, record: JobRecord) -> bool:
    """Whether the worker can have begun the job: not if a heartbeat had been missing already when
    it was sent, nor if the engine had stopped making steps, between which it takes jobs."""
    if record.run_at - session.seen_at >= MISSING_AFTER_S:
        return False
    beat = session.heartbeat
    if beat is None or not session.stalled:
        return True
    last_step_at = session.seen_at - beat.last_step_age_s
    return record.run_at < last_step_at + TAKEN_WITHIN_S


def _seems_to_have_had(session: Session, record: JobRecord, now: float) -> bool:
    """Whether it was well until it was lost, or has spoken of the job before it fell silent. One
    that has not may have vanished before the job was sent."""
    if now - session.seen_at < MISSING_AFTER_S:
        return True
    beat = session.heartbeat
    named = beat is not None and record.run_id in (*beat.jobs, *beat.streams)
    return named or record.phase is Phase.RUNNING or record.run_tokens > 0

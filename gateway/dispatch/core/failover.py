"""What happens to the jobs of a worker that is lost, cut off, dead, or has lost a message. Pure."""

from __future__ import annotations

from collections.abc import Callable

from gateway.dispatch.core.dispatcher import Dispatcher, Send
from gateway.dispatch.core.jobs import MAX_DEATHS
from gateway.dispatch.core.refusals import workers_lost
from gateway.dispatch.core.sessions import Session
from shared.messages import Cancel

PATIENT_BEATS = 2
"""How many heartbeats running may lack a job before it counts as lost on its way."""


class Failover:
    """Jobs go elsewhere at once; who is to blame is settled when the worker's fate is known."""

    def __init__(self, dispatcher: Dispatcher) -> None:
        self._dispatcher = dispatcher

    def lose(self, session: Session, now: float) -> None:
        """The session is gone, with all it held: every job goes elsewhere."""
        dispatcher = self._dispatcher
        for run_id in reversed(list(session.outstanding)):
            record = dispatcher.on(session, run_id)
            if record is not None:
                record.lost[session.routing_id] = session.identity
                dispatcher.requeue(record)
            session.release(run_id)
        dispatcher.refit(session.pool, now)

    def absolve(self, routing_id: bytes, now: float) -> None:
        """A lost session is heard of again: it was only cut off, and no job is to blame."""
        self._resolve(now, lambda lost, _: lost == routing_id, died=False)

    def confirm_death(self, worker: str, now: float) -> None:
        """The worker has started anew, or has been gone for too long: its lost sessions died."""
        self._resolve(now, lambda _, name: name == worker, died=True)

    def undelivered(self, run_id: str) -> None:
        """A `Submit` could not be sent: the job goes elsewhere and the worker is not to blame."""
        dispatcher = self._dispatcher
        record = dispatcher.runs.get(run_id)
        if record is not None and record.session is not None:
            session = dispatcher.registry.sessions.get(record.session)
            if session is not None:
                session.release(run_id)
            dispatcher.requeue(record)

    def reconcile(self, session: Session, held: set[str], now: float) -> None:
        """Compare with the runs a heartbeat says the worker holds, so that any lost message
        heals: unknown ones are cancelled there, missing ones go elsewhere."""
        strangers = [run_id for run_id in held if run_id not in session.outstanding]
        if strangers:
            self._dispatcher.effects.append(Send(session.routing_id, Cancel(jobs=strangers)))
        for run_id in list(session.outstanding):
            if run_id in held:
                session.absent_beats.pop(run_id, None)
                continue
            beats = session.absent_beats[run_id] = session.absent_beats.get(run_id, 0) + 1
            if beats >= PATIENT_BEATS:
                self._dispatcher.take_back(session, run_id, now)

    def _resolve(self, now: float, meant: Callable[[bytes, str], bool], *, died: bool) -> None:
        dispatcher = self._dispatcher
        for record in list(dispatcher.jobs.values()):
            fates = [lost for lost, name in record.lost.items() if meant(lost, name)]
            for lost in fates:
                del record.lost[lost]
                record.deaths += died
            if record.deaths >= MAX_DEATHS:
                dispatcher.stop_on_worker(record)
                dispatcher.fail(record, workers_lost(record), now)
            elif fates:
                dispatcher.pump(record.pool, now)

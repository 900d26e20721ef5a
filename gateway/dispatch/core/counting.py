"""Prompts whose tokens are to be counted: they take no slot and wait for none.

Pure, like the dispatcher: what is to be sent or told is appended to its effects. A worker answers
a few at a time beside its generations; the rest wait here, first come first served.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import msgspec

from gateway.dispatch.core.dispatcher import Effect, Send, Tell
from gateway.dispatch.core.refusals import NO_WORKER_RETRY_S, worker_error
from gateway.dispatch.core.sessions import Registry, Session
from gateway.errors import ApiError, DeadlinePassed, NoWorker, QueueFull, WorkerFailed
from shared.messages import (
    Accepted,
    CountedTokens,
    CountTokens,
    Failed,
    Job,
    Message,
    Rejected,
)

MOST_PROMPTS = 100
"""Being prepared, waiting or asked about; the next one is told to come back."""

MOST_ASKED = 4
"""Prompts that one worker is asked about at once: they share its threads with generations."""

MOST_RUNS = 2
FULL_RETRY_S = 1.0


@dataclass
class PromptRecord:
    """One prompt on its way to being counted; `job` is None until its images are there."""

    id: str
    request_id: str
    pool: str
    deadline_at: float
    job: Job | None = None
    images: Sequence[bytes] = ()
    session: bytes = b""
    runs: int = 0
    rejections: int = 0


class Counting:
    """
    Args:
        effects: what is to be sent and told.
        timeout_s: the longest a count may take, from arrival.
    """

    def __init__(self, registry: Registry, effects: list[Effect], timeout_s: float) -> None:
        self._registry = registry
        self._effects = effects
        self._timeout_s = timeout_s
        self._prompts: dict[str, PromptRecord] = {}
        self._waiting: list[PromptRecord] = []
        self._asked: dict[str, PromptRecord] = {}
        """By the id of the run. Those given up stay until the worker has answered: it is still
        busy with them."""

    def reserve(self, prompt_id: str, request_id: str, pool: str, now: float) -> PromptRecord:
        """Take a place. Raises QueueFull."""
        if len(self._prompts) >= MOST_PROMPTS:
            raise QueueFull(retry_after_s=FULL_RETRY_S)
        record = PromptRecord(prompt_id, request_id, pool, now + self._timeout_s)
        self._prompts[record.id] = record
        return record

    def submit(self, record: PromptRecord, job: Job, images: Sequence[bytes]) -> None:
        """The prompt is prepared: ask about it as soon as a worker has a hand free."""
        if record.id in self._prompts:
            record.job, record.images = job, images
            self._waiting.append(record)
            self._ask()

    def cancel(self, record: PromptRecord) -> None:
        """Nobody waits for the number any more. Idempotent."""
        self._prompts.pop(record.id, None)
        if record in self._waiting:
            self._waiting.remove(record)

    # --- what workers say ------------------------------------------------------------------

    def message(self, session: Session, message: Message) -> bool:
        """Take a message if it answers what was asked here; False when it does not."""
        if not isinstance(message, CountedTokens | Failed | Rejected):
            return False
        record = self._asked.get(message.job)
        if record is None or record.session != session.routing_id:
            return False
        del self._asked[message.job]
        if record.id in self._prompts:
            self._answered(record, message)
        if not isinstance(message, Rejected):
            self._ask()
        return True

    def tick(self, now: float) -> None:
        """Ask again about what was lost with its worker; give up what has taken too long."""
        if not self._prompts and not self._asked:
            return
        for run_id, record in list(self._asked.items()):
            if record.session not in self._registry.sessions:
                del self._asked[run_id]
                self._again(record)
        for record in list(self._prompts.values()):
            if now >= record.deadline_at:
                words = f"The prompt's tokens were not counted within {self._timeout_s:g} s."
                self._give_up(record, DeadlinePassed(words))
        self._ask()

    # --- moves -----------------------------------------------------------------------------

    def _answered(self, record: PromptRecord, message: CountedTokens | Failed | Rejected) -> None:
        if isinstance(message, CountedTokens):
            self._tell(record, Accepted(job=record.id, prompt_tokens=message.prompt_tokens))
        elif isinstance(message, Failed):
            self._tell(record, worker_error(message, record.request_id))
        else:
            # Other gateways keep that worker busy, or it is leaving: again at the next tick.
            record.rejections += 1
            self._waiting.insert(0, record)

    def _again(self, record: PromptRecord) -> None:
        if record.id not in self._prompts:
            return
        if record.runs - record.rejections < MOST_RUNS:
            self._waiting.insert(0, record)
            return
        words = f"{MOST_RUNS} workers failed while they counted this prompt's tokens; "
        words += f"it is not tried again. Request id: {record.request_id}."
        self._give_up(record, WorkerFailed(words))

    def _ask(self) -> None:
        waiting, self._waiting = self._waiting, []
        for record in waiting:
            sessions = self._registry.dispatchable(record.pool)
            able = [session for session in sessions if session.hello.counts]
            free = [session for session in able if self._load(session) < MOST_ASKED]
            if free:
                self._send(record, min(free, key=self._load))
            elif sessions and not able:
                words = "No worker of this model can count tokens: they are of an older version."
                self._give_up(record, NoWorker(words, retry_after_s=NO_WORKER_RETRY_S))
            else:
                self._waiting.append(record)

    def _load(self, session: Session) -> int:
        return sum(record.session == session.routing_id for record in self._asked.values())

    def _send(self, record: PromptRecord, session: Session) -> None:
        assert record.job is not None
        record.runs += 1
        record.session = session.routing_id
        run_id = f"{record.id}.{record.runs}"
        self._asked[run_id] = record
        message = CountTokens(job=msgspec.structs.replace(record.job, id=run_id))
        self._effects.append(Send(session.routing_id, message, record.images))

    def _give_up(self, record: PromptRecord, error: ApiError) -> None:
        self.cancel(record)
        self._tell(record, error)

    def _tell(self, record: PromptRecord, news: Accepted | ApiError) -> None:
        self._prompts.pop(record.id, None)
        self._effects.append(Tell(record.id, news))

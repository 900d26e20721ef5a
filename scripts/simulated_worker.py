"""A worker that obeys the protocol (`docs/protocol.md`) without socket, clock or model.

Messages go in, messages come out. The tests' simulation and `scripts/bench scale` drive the core
of dispatch with it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from shared.messages import (
    Accepted,
    Cancel,
    Cancelled,
    CountedTokens,
    CountTokens,
    Delta,
    Deltas,
    Done,
    FinishReason,
    Heartbeat,
    Hello,
    Identify,
    Job,
    Message,
    Rejected,
    Submit,
    Timings,
    Usage,
    WorkerState,
)

PROMPT_TOKENS = 10
STALL_TIMEOUT_S = 10.0


@dataclass
class Run:
    """A job that the worker holds. Token i of every answer is the integer i, so that a gap or a
    repeat cannot hide."""

    job: Job
    made: int
    sequence: int = 0

    def next_delta(self, answer_tokens: int) -> Delta:
        token, sequence = self.made, self.sequence
        self.made += 1
        self.sequence += 1
        finish: FinishReason | None = "stop" if self.made == answer_tokens else None
        return Delta(self.job.id, sequence, 0, [token], f"{token} ", finish)


@dataclass
class SimulatedWorker:
    """`in_one`: all that a step brings is said in one message, as our own workers do."""

    name: str
    slots: int = 1
    stream_slots: int = 1
    counts: bool = True
    answer_tokens: int = 8
    in_one: bool = False
    pid: int = 0
    model: str = "m"
    state: WorkerState = "ready"
    supervisor: str = ""
    routing_id: bytes = b""
    runs: dict[str, Run] = field(default_factory=dict)
    begun: int = 0
    """How many runs it has taken."""
    prompts: list[str] = field(default_factory=list)
    """Runs that are only to be counted."""
    _accepted: list[Accepted] = field(default_factory=list)

    def hello(self) -> Hello:
        return Hello(
            worker=self.name,
            models=[self.model],
            slots=self.slots,
            stream_slots=self.stream_slots,
            state=self.state,
            counts=self.counts,
            stall_timeout_s=STALL_TIMEOUT_S,
            pid=self.pid,
            supervisor=self.supervisor,
        )

    def heartbeat(self) -> Heartbeat:
        return Heartbeat(
            state=self.state,
            free_slots=self.free(stream=False),
            free_stream_slots=self.free(stream=True),
            jobs=[run.job.id for run in self.runs.values() if not run.job.stream],
            streams=[run.job.id for run in self.runs.values() if run.job.stream],
            counting=[*self.prompts],
            active=len(self.runs),
        )

    def free(self, *, stream: bool) -> int:
        limit = self.stream_slots if stream else self.slots
        return limit - sum(1 for run in self.runs.values() if run.job.stream == stream)

    def holds(self, answer_id: str) -> bool:
        return any(run.job.answer_id == answer_id for run in self.runs.values())

    def drop(self, run_id: str) -> None:
        """Forget a run, if it is here."""
        self.runs.pop(run_id, None)
        if run_id in self.prompts:
            self.prompts.remove(run_id)

    def take(self, message: Message) -> list[Message]:
        """Take a gateway's message. Returns what it says to it at once."""
        if isinstance(message, Submit):
            return self._submit(message.job)
        if isinstance(message, CountTokens):
            self.prompts.append(message.job.id)
        if isinstance(message, Cancel):
            for run_id in message.jobs:
                self.runs.pop(run_id, None)
            return [Cancelled(job=run_id) for run_id in message.jobs]
        if isinstance(message, Identify):
            self.runs.clear()
            self.prompts.clear()
            return [self.hello()]
        return []

    def step(self, run_ids: Iterable[str] | None = None) -> list[Message]:
        """Make one token for each of these runs (None: for all), and count what is to be counted.
        Returns what it says."""
        items, ends = [], []
        for run in [self.runs[run_id] for run_id in (self.runs if run_ids is None else run_ids)]:
            delta = run.next_delta(self.answer_tokens)
            items.append(delta)
            if delta.finish_reason:
                del self.runs[run.job.id]
                usage = Usage(prompt_tokens=PROMPT_TOKENS, completion_tokens=run.made)
                ends.append(Done(job=run.job.id, usage=usage, timings=Timings()))
        said: list[Message] = [CountedTokens(run_id, PROMPT_TOKENS) for run_id in self.prompts]
        self.prompts.clear()
        if self.in_one and items:
            accepted, self._accepted = self._accepted, []
            said.append(Deltas(items=items, accepted=accepted, done=ends))
        elif items:
            said += [Deltas(items=items), *ends]
        return said

    def _submit(self, job: Job) -> list[Message]:
        assert job.id not in self.runs
        if self.state != "ready":
            return [Rejected(job=job.id, reason=self.state)]
        if self.free(stream=job.stream) <= 0:
            return [Rejected(job=job.id, reason="no_slot")]
        self.begun += 1
        self.runs[job.id] = Run(job, len(job.resume[0].tokens) if job.resume else 0)
        accepted = Accepted(job=job.id, prompt_tokens=PROMPT_TOKENS)
        if not self.in_one:
            return [accepted]
        self._accepted.append(accepted)
        return []

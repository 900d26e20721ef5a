"""What a gateway says to its workers."""

from __future__ import annotations

from shared.messages.base import Amount, CancelledJobs, FromGateway, Interval, WorkerAction
from shared.messages.job import Job


class Welcome(FromGateway):
    """Answers `Hello`: the session is open."""

    type_code = 65

    gateway: str
    """Random, fresh for each start of the gateway."""
    heartbeat_s: Interval
    """How often to send a `Heartbeat`, and how often a `Ping` comes."""


class Ping(FromGateway):
    """The gateway lives. A worker that hears nothing for three intervals drops its jobs."""

    type_code = 66

    gateway: str
    """The same as in `Welcome`; another one: it has restarted."""


class JobMessage(FromGateway):
    """A whole job. Its images follow as frames, in the order of `job.images`."""

    max_body_bytes = 64 << 20
    max_containers = max_body_bytes
    has_integer_keys = True  # of `Sampling.logit_bias`

    job: Job
    """The request."""

    @property
    def attachments(self) -> int:
        return len(self.job.images)


class Submit(JobMessage):
    """Do this job. Sent when a slot of its kind is believed to be free."""

    type_code = 67

    budget_s: Amount
    """How long its client waits: for the whole answer, or for a stream's next token."""


class CountTokens(JobMessage):
    """How long is this job's prompt? Takes no slot; only for workers whose `Hello` says `counts`.

    Answered by `CountedTokens`, also when the prompt is longer than the context, by `Failed`, or by
    `Rejected` when the worker has too many to count.
    """

    type_code = 71


class Cancel(FromGateway):
    """Idempotent. Answered by `Cancelled` unless the job's end is already on its way."""

    type_code = 68
    max_body_bytes = 1 << 20

    jobs: CancelledJobs
    """Ids of runs."""


class Identify(FromGateway):
    """ "I do not know you" (the gateway has restarted): drop my jobs and say `Hello` again."""

    type_code = 69


class Control(FromGateway):
    """An operator's order."""

    type_code = 70

    action: WorkerAction
    """See "States"."""


class Load(FromGateway):
    """Somebody wants a model of the host's catalogue. Only to who sends `Catalogue`.

    Idempotent, and repeated every second for as long as somebody waits: that is how the host knows
    that somebody does. What becomes of it is told in the next `Catalogue`.
    """

    type_code = 72

    model: str
    """Its first name, or one of its aliases."""
    idle_unload_s: Amount | None = None
    """Sets anew after how many seconds without a job it leaves; 0: never; nil: as it is."""


class Unload(FromGateway):
    """An operator's order: what runs is finished, then the model leaves, pinned or not."""

    type_code = 73

    model: str
    """Its first name, or one of its aliases."""

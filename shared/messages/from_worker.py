"""What a worker says to its gateways."""

from __future__ import annotations

from typing import Annotated

import msgspec

from shared.messages.answer import Delta, Timings, Usage
from shared.messages.base import (
    Amount,
    Count,
    FailureCode,
    FromWorker,
    Gauge,
    HeldJobs,
    ModelRoom,
    ModelStatus,
    Record,
    RejectReason,
    SlotCount,
    WorkerState,
)

MAX_DIED_WITH = 512
"""Most runs that a `Hello` names: with ids like ours they take a third of its frame."""


class Hello(FromWorker):
    """Opens a session; the only message a gateway accepts from an unknown peer.

    `worker` is a name for people; `instance` is its supervisor's, random, so that two workers of
    one name are not taken for one. Both outlive restarts of the engine process, the socket's
    routing id does not: a second session of the same instance supersedes the first.
    """

    type_code = 1

    worker: str
    """A name for people; unique among workers, or `instance` is."""
    models: list[str]
    """Ids that it serves, all the same model; the first is canonical. 1 to 64, none empty."""
    slots: SlotCount
    """Most jobs at once that are not streams."""
    stream_slots: SlotCount
    """Most streams at once, besides."""
    state: WorkerState
    """See "States"."""
    instance: str = ""
    """Random, chosen once for each start of the worker; outlives engine restarts."""
    device: str = ""
    """What it computes on, for people."""
    context_tokens: Count | None = None
    """Longest prompt and answer together; nil: not known, or not yet."""
    vision: bool = True
    """Whether it takes images."""
    stall_timeout_s: Amount = 30.0
    """Active jobs and no step for so long: it hangs, and its jobs go elsewhere."""
    pid: Count = 0
    """Its process; the same `worker`, `instance` and `host` with the same one has not died."""
    host: str = ""
    """Its machine, for people."""
    versions: dict[str, str] = {}
    """Names and versions of what it is made of, for people. 64 at most."""
    counts: bool = False
    """Whether it answers `CountTokens`."""
    proven: dict[str, bool] = {}
    """What was tried with the model as it was loaded, and whether its answers were right: "text",
    "pictures", "batching", ...; what was not, it is served without. 64 at most."""
    supervisor: str = ""
    """The `instance` of the `Catalogue` that this model stands in; empty: in none."""
    died_with: Annotated[list[str], msgspec.Meta(max_length=MAX_DIED_WITH)] | None = None
    """Runs, whichever gateway's, that earlier processes of this `instance` had begun and not ended
    when they died; nil: it does not say, and then all that they were sent count."""


class Heartbeat(FromWorker):
    """The worker's whole truth, every heartbeat interval and at once when it changes."""

    type_code = 2
    max_body_bytes = 1 << 20

    state: WorkerState
    """See "States"."""
    loaded_fraction: Amount = 0.0
    """How much of the model is loaded, 0 to 1."""
    free_slots: Count = 0
    """`slots` less the jobs of this kind that it holds, whoever sent them."""
    free_stream_slots: Count = 0
    """`stream_slots` less the streams that it holds, whoever sent them."""
    jobs: HeldJobs = []
    """The jobs it holds for this gateway: whole answers, ..."""
    streams: HeldJobs = []
    """... and streams."""
    counting: HeldJobs | None = None
    """The prompts that it counts for this gateway; null when it does not say, and then nobody
    notices that a count was lost."""
    active: Count = 0
    """All jobs it holds, whoever sent them."""
    gateways: Annotated[int, msgspec.Meta(ge=1, le=1024)] = 1
    """How many gateways it has sessions with, so that what they say of its slots can be summed."""
    steps: Count = 0
    """Counts the engine's steps since its start."""
    last_step_age_s: Amount = 0.0
    """Since the engine last came round or was seen to compute. Compared with `stall_timeout_s`."""
    memory_bytes: Count = 0
    """What model and caches take."""
    gauges: dict[str, Gauge] = {}
    """Further figures, shown to people under their names; `tokens_per_second` is one of the
    metrics."""


MAX_UNENFORCED = 16
"""Most that is named: it goes into a header."""


class Accepted(FromWorker):
    """A slot is taken, the prompt is tokenized and fits; prefill comes next."""

    type_code = 3

    job: str
    """The run's id, `Job.id`."""
    prompt_tokens: Count
    """Length of the prompt, images included."""
    unenforced: Annotated[list[str], msgspec.Meta(max_length=MAX_UNENFORCED)] = []
    """What in a schema that is not strict is not enforced: keywords, and formats as `format:x`."""


class Rejected(FromWorker):
    """Not done here, through no fault of the job: it goes back to the head of the queue."""

    type_code = 4

    job: str
    """The run's id."""
    reason: RejectReason
    """See "Rejections"."""


class Deltas(FromWorker):
    """One message a step with everything that step brought for one gateway's jobs.

    `accepted` and `done` may as well be messages of their own. A short answer is one message.
    """

    type_code = 5
    max_body_bytes = 8 << 20

    items: list[Delta]
    """In the order they were made."""
    accepted: list[Accepted] = []
    """To be read before `items`."""
    done: list[Done] = []
    """To be read after `items`."""


class Done(FromWorker):
    """The job is over and its slot is free. Every choice's finish reason came in a Delta."""

    type_code = 6

    job: str
    """The run's id."""
    usage: Usage
    """What clients are told."""
    timings: Timings
    """Shown to people, and in metrics."""
    stops: list[str | None] = []
    """The stop string that ended each choice, None where it was something else; empty: nowhere."""


class Failed(FromWorker):
    """This job alone has failed and its slot is free."""

    type_code = 7

    job: str
    """The run's id."""
    code: FailureCode
    """See "Failures"."""
    message: str
    """For the client: what is wrong and what to do."""
    param: str | None = None
    """The field at fault, as OpenAI's chat completions name it (`messages`, `logit_bias`)."""
    prompt_tokens: Count | None = None
    """With `context_length_exceeded`: the prompt's length, images included, ..."""
    context_tokens: Count | None = None
    """... and the longest that prompt and answer may be together."""


class Cancelled(FromWorker):
    """Answers `Cancel`: the job is gone and its slot is free."""

    type_code = 8

    job: str
    """The run's id."""


class CountedTokens(FromWorker):
    """Answers `CountTokens`."""

    type_code = 10

    job: str
    """The id of the job in `CountTokens`."""
    prompt_tokens: Count
    """Length of the prompt, images included."""


class Goodbye(FromWorker):
    """The worker leaves; what it still held was `Rejected` before."""

    type_code = 9

    returning: bool = False
    """Whether it is about to start again, so that its slots are worth waiting for."""


MAX_CATALOGUE = 1024
MAX_ALIASES = 64


class CatalogueEntry(Record):
    """A model that a host may load, and how it is there now."""

    name: str
    """Its first name, which is the pool's."""
    status: ModelStatus
    """`loading` until its own session says `ready`; `failed`: not tried before `retry_s`."""
    slots: SlotCount
    """What it has to offer when it is loaded: as in `Hello`, ..."""
    stream_slots: SlotCount
    """... and for streams."""
    aliases: Annotated[list[str], msgspec.Meta(max_length=MAX_ALIASES)] = []
    """Its other names."""
    room: ModelRoom = "free"
    """What stands in the way of loading it now: nothing (`free`), models that have no job and would
    leave (`idle`), models with jobs (`busy`), pinned ones (`pinned`), or the whole budget, which is
    less than it takes (`never`). Means nothing once it is loading or loaded."""
    fraction: Amount = 0.0
    """How much of it is downloaded or loaded, 0 to 1."""
    error: Annotated[str, msgspec.Meta(max_length=1024)] = ""
    """Why it has `failed`, a sentence for people."""
    retry_s: Amount = 0.0
    """In how many seconds a failed one may be tried again."""
    memory_bytes: Count = 0
    """What it takes, caches included: measured while it is loaded, else estimated; 0: unknown."""
    pinned: bool = False
    """It leaves only by order."""
    idle_s: Amount | None = None
    """Since its last job ended; nil: it has one, or is not loaded."""
    context_tokens: Count | None = None
    """As in `Hello`; nil: not known before it is loaded."""
    vision: bool | None = None
    """Whether it takes images; nil: not known before it is loaded."""
    kept: bool = False
    """Its host has no other: it is loaded at the start and stays. Nobody can have it loaded or
    unloaded; requests for it are for the session of its engine alone."""
    done_bytes: Count = 0
    """While it is `downloading`: bytes of all its files that are here, ..."""
    total_bytes: Count = 0
    """... and how many there are; 0: not known yet."""


class Catalogue(FromWorker):
    """A host's whole truth about its models, every heartbeat interval and at once when it changes.

    A host is a supervisor: it runs each loaded model in a process of its own, which has a session
    of its own. This message opens the host's session and keeps it; it takes no jobs, and hears
    `Load` and `Unload`. Answered by `Welcome` when the session is new.
    """

    type_code = 11
    max_body_bytes = 1 << 20

    worker: str
    """The host's name, for people."""
    instance: str
    """Random, chosen once for each start of the supervisor."""
    models: Annotated[list[CatalogueEntry], msgspec.Meta(max_length=MAX_CATALOGUE)]
    """In the operator's order; no name twice."""
    memory_budget_bytes: Count = 0
    """Most that all of them together may take."""
    memory_used_bytes: Count = 0
    """What those take that are loaded or loading."""
    host: str = ""
    """Its machine, for people."""
    leaving: bool = False
    """Its last words: the host goes, and loads nothing more."""

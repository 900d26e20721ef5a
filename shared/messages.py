"""The vocabulary of the wire: every message the two tiers exchange, one frozen record each.

A gateway binds a ROUTER socket, each worker connects a DEALER to every gateway it is given.

Three rules hold the protocol together:

1. **Level-triggered.** Each `Heartbeat` restates the whole truth (state, free slots, the jobs it
   holds for this gateway). A lost message heals within two heartbeats, so there are no
   acknowledgements and no retransmission.
2. **Late binding.** A `Submit` is sent only when the worker is believed to have a free slot; a
   worker that several gateways share answers `Rejected` when it has none, and the job goes back
   to the head of its gateway's queue.
3. **Everything needed to go on elsewhere is at the gateway.** Each `Delta` carries the token ids
   behind its text and a sequence number, so a job can be resumed on another worker from exactly
   what its client has seen. Sampling is a function of (seed, choice, position), so the
   continuation is the one the first worker would have produced.

Names end in their unit: `_s` seconds (float; durations, never clock readings, because the clocks
of two machines differ), `_bytes`, `_px`, `_tokens`. `docs/protocol.md` describes the same
messages for people who write a worker in another language.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec

WorkerState = Literal["loading", "ready", "draining"]
FinishReason = Literal["stop", "length", "tool_calls"]
RejectReason = Literal["no_slot", "draining", "loading", "unknown_model"]
FailureCode = Literal[
    "invalid_request",
    "invalid_image",
    "context_length_exceeded",
    "unsupported_parameter",
    "out_of_memory",
    "internal_error",
]
WorkerAction = Literal["drain", "resume", "restart"]

# Numbers as far as they make sense. A message with any other is malformed: what a peer claims is
# checked once, where it comes in, and never reaches a counter or an index.
Count = Annotated[int, msgspec.Meta(ge=0, le=2**53)]
Amount = Annotated[float, msgspec.Meta(ge=0, le=1e12)]
Number = Annotated[float, msgspec.Meta(ge=-1e9, le=1e9)]
Gauge = Annotated[float, msgspec.Meta(ge=-1e15, le=1e15)]
Small = Annotated[int, msgspec.Meta(ge=0, lt=2**31)]
TokenId = Small
MAX_SLOTS = 4096
SlotCount = Annotated[int, msgspec.Meta(ge=0, le=MAX_SLOTS)]
HeldJobs = Annotated[list[str], msgspec.Meta(max_length=MAX_SLOTS)]
"""As many as a worker has slots of a kind."""
CancelledJobs = Annotated[list[str], msgspec.Meta(max_length=2 * MAX_SLOTS)]
"""As many as a worker can hold; each may bring an answer, so that more would be a flood."""
ChoiceCount = Annotated[int, msgspec.Meta(ge=1, le=128)]
LogprobCount = Annotated[int, msgspec.Meta(ge=0, le=128)]
Interval = Annotated[float, msgspec.Meta(ge=0.01, le=60)]


class Record(msgspec.Struct, frozen=True, omit_defaults=True):
    """A map on the wire. Fields left at their default are not sent; unknown fields are ignored."""


# --- what a job is made of -----------------------------------------------------------------


class TextPart(Record, tag_field="type", tag="text"):
    text: str


class ImagePart(Record, tag_field="type", tag="image"):
    """Stands where the image stood in the message; `index` counts into `Job.images`."""

    index: Count


class ToolCall(Record):
    """A call the assistant made in an earlier turn; `arguments` is JSON text."""

    id: str
    name: str
    arguments: str


class ChatMessage(Record):
    """One turn. `developer` has become `system`; `content` keeps the order the client sent."""

    role: Literal["system", "user", "assistant", "tool"]
    content: list[TextPart | ImagePart] = []
    name: str | None = None
    reasoning: str | None = None
    tool_calls: list[ToolCall] = []
    tool_call_id: str | None = None


class ImageInfo(Record):
    """Describes one attachment frame. The bytes are the file as it came, never re-encoded."""

    sha256: str
    media_type: str
    width_px: Count
    height_px: Count


class Sampling(Record):
    """Per-request sampling. `None` means the model's own default (its generation config)."""

    seed: int
    temperature: Number | None = None
    top_p: Number | None = None
    top_k: Small | None = None
    min_p: Number | None = None
    repetition_penalty: Number | None = None
    presence_penalty: Number = 0.0
    frequency_penalty: Number = 0.0
    logit_bias: dict[TokenId, Number] = {}


class Tool(Record):
    """A function the model may call; `parameters` is a JSON schema."""

    name: str
    description: str = ""
    parameters: dict[str, Any] = {}
    strict: bool = False


class ToolPolicy(Record):
    """`mode` "required" with a `name` forces that one function."""

    tools: list[Tool]
    mode: Literal["auto", "required"] = "auto"
    name: str | None = None
    parallel: bool = True


class ResponseFormat(Record):
    """`schema` is None for `json_object` (any JSON object)."""

    schema: dict[str, Any] | None = None


class Resume(Record):
    """What one choice of a migrated job had produced: all its token ids, in order."""

    tokens: list[TokenId]
    finish_reason: FinishReason | None = None


class Job(Record):
    """One request, complete. Exactly one of `messages` and `prompt` is set."""

    id: str
    """Of this run: a job that is dispatched again comes under a new id."""
    answer_id: str
    """Of the answer: the same in every run; what clients see (tool-call ids) derives from it."""
    request_id: str
    model: str
    stream: bool
    sampling: Sampling
    messages: list[ChatMessage] = []
    prompt: str | None = None
    continue_final_message: bool = False
    images: list[ImageInfo] = []
    max_tokens: Small | None = None
    stop: list[str] = []
    choices: ChoiceCount = 1
    logprobs: LogprobCount | None = None
    """None: no logprobs; k: the chosen token's and the k likeliest (0 to 20)."""
    response_format: ResponseFormat | None = None
    tool_policy: ToolPolicy | None = None
    template_options: dict[str, Any] = {}
    """Extra variables for the chat template (`enable_thinking`, `reasoning_effort`, ...)."""
    cache_salt: str = ""
    """Keeps the prefix caches of two tenants apart."""
    ignore_eos: bool = False
    echo: bool = False
    resume: list[Resume] = []


# --- worker to gateway ---------------------------------------------------------------------


class Hello(Record):
    """Opens a session; the only message a gateway accepts from an unknown peer.

    `worker` is a name for people; `instance` is its supervisor's, random, so that two workers of
    one name are not taken for one. Both outlive restarts of the engine process, the socket's
    routing id does not: a second session of the same instance supersedes the first.
    """

    worker: str
    models: list[str]
    slots: SlotCount
    stream_slots: SlotCount
    state: WorkerState
    instance: str = ""
    device: str = ""
    context_tokens: Count | None = None
    vision: bool = True
    stall_timeout_s: Amount = 30.0
    pid: Count = 0
    host: str = ""
    versions: dict[str, str] = {}
    counts: bool = False
    """Whether it answers `CountTokens`."""


class Heartbeat(Record):
    """The worker's whole truth, every heartbeat interval and at once when it changes."""

    state: WorkerState
    loaded_fraction: Amount = 0.0
    free_slots: Count = 0
    free_stream_slots: Count = 0
    jobs: HeldJobs = []
    """The jobs it holds for this gateway: whole answers, ..."""
    streams: HeldJobs = []
    """... and streams."""
    active: Count = 0
    """All jobs it holds, whoever sent them."""
    steps: Count = 0
    last_step_age_s: Amount = 0.0
    memory_bytes: Count = 0
    gauges: dict[str, Gauge] = {}


class Accepted(Record):
    """A slot is taken, the prompt is tokenized and fits; prefill comes next."""

    job: str
    prompt_tokens: Count


class Rejected(Record):
    """Not done here, through no fault of the job: it goes back to the head of the queue."""

    job: str
    reason: RejectReason


class TokenLogprob(msgspec.Struct, frozen=True, array_like=True):
    token: str
    bytes: list[int]
    logprob: float
    top: list[tuple[str, list[int], float]] = []


class ToolCallDelta(msgspec.Struct, frozen=True, array_like=True):
    """A piece of tool call number `index`. `id` and `name` come with its first piece."""

    index: Count
    arguments: str = ""
    id: str = ""
    name: str = ""


class Delta(msgspec.Struct, frozen=True, array_like=True):
    """What one choice of one job gained in one step. An array on the wire: it is the hot path.

    `sequence` counts a job's deltas from 0, anew on each worker it runs on; a gap means a lost
    message. `text` may be empty while tokens are held back (half a character, the possible start
    of a stop string); `tokens` never lag behind the engine.
    """

    job: str
    sequence: Count
    choice: Count
    tokens: list[TokenId]
    text: str = ""
    finish_reason: FinishReason | None = None
    reasoning: str = ""
    tool_calls: list[ToolCallDelta] = []
    logprobs: list[TokenLogprob] = []


class Deltas(Record):
    """One message a step with everything that step brought for one gateway's jobs.

    `accepted` comes before `items` and `done` after them; either may as well be a message of its
    own. A short answer is one message in all.
    """

    items: list[Delta]
    accepted: list[Accepted] = []
    done: list[Done] = []


class Usage(Record):
    prompt_tokens: Count
    completion_tokens: Count
    cached_tokens: Count = 0
    image_tokens: Count = 0
    reasoning_tokens: Count = 0


class Timings(Record):
    """Where the worker's time went, measured on the worker. Zero means: did not happen."""

    preprocess_s: Amount = 0.0
    vision_s: Amount = 0.0
    prefill_s: Amount = 0.0
    first_token_s: Amount = 0.0
    decode_s: Amount = 0.0
    total_s: Amount = 0.0


class Done(Record):
    """The job is over and its slot is free. Every choice's finish reason came in a Delta."""

    job: str
    usage: Usage
    timings: Timings
    stops: list[str | None] = []
    """The stop string that ended each choice, None where it was something else; empty: nowhere."""


class Failed(Record):
    """This job alone has failed and its slot is free."""

    job: str
    code: FailureCode
    message: str
    param: str | None = None


class Cancelled(Record):
    """Answers `Cancel`: the job is gone and its slot is free."""

    job: str


class CountedTokens(Record):
    """Answers `CountTokens`."""

    job: str
    prompt_tokens: Count


class Goodbye(Record):
    """The worker leaves; what it still held was `Rejected` before.

    `returning`: its supervisor is about to start it again, so its slots are worth waiting for.
    """

    returning: bool = False


# --- gateway to worker ---------------------------------------------------------------------


class Welcome(Record):
    """Answers `Hello`: the session is open."""

    gateway: str
    heartbeat_s: Interval


class Ping(Record):
    """The gateway lives. A worker that hears nothing for three intervals drops its jobs."""

    gateway: str


class Submit(Record):
    """`budget_s` is what is left of the job's deadline. Images follow as frames, in order."""

    job: Job
    budget_s: Amount


class CountTokens(Record):
    """How long is this job's prompt? Takes no slot; only for workers whose `Hello` says `counts`.

    Images follow as frames, in order. Answered by `CountedTokens`, also when the prompt is longer
    than the context, by `Failed`, or by `Rejected` when the worker has too many to count.
    """

    job: Job


class Cancel(Record):
    """Idempotent. Answered by `Cancelled` unless the job's end is already on its way."""

    jobs: CancelledJobs


class Identify(Record):
    """ "I do not know you" (the gateway has restarted): drop my jobs and say `Hello` again."""


class Control(Record):
    """An operator's order."""

    action: WorkerAction


# Wire codes. Never reuse or renumber one: old peers are told apart by them.
TYPE_CODES: dict[type[msgspec.Struct], int] = {
    Hello: 1,
    Heartbeat: 2,
    Accepted: 3,
    Rejected: 4,
    Deltas: 5,
    Done: 6,
    Failed: 7,
    Cancelled: 8,
    Goodbye: 9,
    CountedTokens: 10,
    Welcome: 65,
    Ping: 66,
    Submit: 67,
    Cancel: 68,
    Identify: 69,
    Control: 70,
    CountTokens: 71,
}

FromWorker = (
    Hello
    | Heartbeat
    | Accepted
    | Rejected
    | Deltas
    | Done
    | Failed
    | Cancelled
    | Goodbye
    | CountedTokens
)
FromGateway = Welcome | Ping | Submit | Cancel | Identify | Control | CountTokens
Message = FromWorker | FromGateway

FROM_WORKER = frozenset(kind for kind, code in TYPE_CODES.items() if code < 64)
FROM_GATEWAY = frozenset(TYPE_CODES) - FROM_WORKER

MAX_BODY_BYTES: dict[type[msgspec.Struct], int] = {
    Heartbeat: 1 << 20,
    Deltas: 8 << 20,
    Submit: 64 << 20,
    CountTokens: 64 << 20,
    Cancel: 1 << 20,
}
"""The longest MessagePack frame of a message; those not listed: `MAX_SHORT_BODY_BYTES`."""

MAX_SHORT_BODY_BYTES = 64 << 10

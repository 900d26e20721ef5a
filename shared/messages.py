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

from collections.abc import Iterator
from typing import Annotated, Any, ClassVar, Literal, TypeVar

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


class Message(Record):
    """What is sent by itself; what the wire has to know of each kind stands in its class.

    Never reuse or renumber a `type_code`: old peers are told apart by them.
    """

    type_code: ClassVar[int]
    max_body_bytes: ClassVar[int] = 64 << 10
    """The longest MessagePack frame."""
    max_containers: ClassVar[int] = 1 << 17
    """Most arrays and maps in it: each is one byte on the wire and up to 64 in memory. A step's
    `Deltas` with 20 log-probabilities a token have a tenth of that."""

    @property
    def attachments(self) -> int:
        """How many raw frames follow the MessagePack."""
        return 0


class FromWorker(Message):
    """A worker to its gateway."""


class FromGateway(Message):
    """A gateway to its worker."""


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


class Hello(FromWorker):
    """Opens a session; the only message a gateway accepts from an unknown peer.

    `worker` is a name for people; `instance` is its supervisor's, random, so that two workers of
    one name are not taken for one. Both outlive restarts of the engine process, the socket's
    routing id does not: a second session of the same instance supersedes the first.
    """

    type_code = 1

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


class Heartbeat(FromWorker):
    """The worker's whole truth, every heartbeat interval and at once when it changes."""

    type_code = 2
    max_body_bytes = 1 << 20

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


class Accepted(FromWorker):
    """A slot is taken, the prompt is tokenized and fits; prefill comes next."""

    type_code = 3

    job: str
    prompt_tokens: Count


class Rejected(FromWorker):
    """Not done here, through no fault of the job: it goes back to the head of the queue."""

    type_code = 4

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


class Deltas(FromWorker):
    """One message a step with everything that step brought for one gateway's jobs.

    `accepted` comes before `items` and `done` after them; either may as well be a message of its
    own. A short answer is one message in all.
    """

    type_code = 5
    max_body_bytes = 8 << 20

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


class Done(FromWorker):
    """The job is over and its slot is free. Every choice's finish reason came in a Delta."""

    type_code = 6

    job: str
    usage: Usage
    timings: Timings
    stops: list[str | None] = []
    """The stop string that ended each choice, None where it was something else; empty: nowhere."""


class Failed(FromWorker):
    """This job alone has failed and its slot is free."""

    type_code = 7

    job: str
    code: FailureCode
    message: str
    param: str | None = None


class Cancelled(FromWorker):
    """Answers `Cancel`: the job is gone and its slot is free."""

    type_code = 8

    job: str


class CountedTokens(FromWorker):
    """Answers `CountTokens`."""

    type_code = 10

    job: str
    prompt_tokens: Count


class Goodbye(FromWorker):
    """The worker leaves; what it still held was `Rejected` before.

    `returning`: its supervisor is about to start it again, so its slots are worth waiting for.
    """

    type_code = 9

    returning: bool = False


# --- gateway to worker ---------------------------------------------------------------------


class Welcome(FromGateway):
    """Answers `Hello`: the session is open."""

    type_code = 65

    gateway: str
    heartbeat_s: Interval


class Ping(FromGateway):
    """The gateway lives. A worker that hears nothing for three intervals drops its jobs."""

    type_code = 66

    gateway: str


class JobMessage(FromGateway):
    """A whole job. Its images follow as frames, in the order of `job.images`."""

    max_body_bytes = 64 << 20
    max_containers = max_body_bytes

    job: Job

    @property
    def attachments(self) -> int:
        return len(self.job.images)


class Submit(JobMessage):
    """`budget_s` is what is left of the job's deadline."""

    type_code = 67

    budget_s: Amount


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


class Identify(FromGateway):
    """ "I do not know you" (the gateway has restarted): drop my jobs and say `Hello` again."""

    type_code = 69


class Control(FromGateway):
    """An operator's order."""

    type_code = 70

    action: WorkerAction


M = TypeVar("M", bound=Message)


def kinds(sender: type[M]) -> Iterator[type[M]]:
    """The kinds of `Message` that `FromWorker` or `FromGateway` sends, or both: all with a code."""
    for kind in sender.__subclasses__():
        if "type_code" in vars(kind):
            yield kind
        yield from kinds(kind)

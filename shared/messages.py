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
    has_integer_keys: ClassVar[bool] = False
    """Whether keys may be other than strings. Whoever chooses integers can choose such as collide
    in a dictionary, which takes ages; strings are hashed with a secret."""

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
    """A piece of text."""

    text: str
    """What was written; may be empty."""


class ImagePart(Record, tag_field="type", tag="image"):
    """Stands where the image stood in the message."""

    index: Count
    """Of the image in `Job.images`, counted from 0."""


class ToolCall(Record):
    """A call the assistant made in an earlier turn."""

    id: str
    """What the result refers to in its `tool_call_id`."""
    name: str
    """The function's."""
    arguments: str
    """JSON text, as the client sent it."""


class ChatMessage(Record):
    """One turn. `developer` has become `system`; `content` keeps the order the client sent."""

    role: Literal["system", "user", "assistant", "tool"]
    """Who speaks."""
    content: list[TextPart | ImagePart] = []
    """Parts in the order the client sent them; empty when there are only calls."""
    name: str | None = None
    """The speaker's or the function's name, if the client gave one."""
    reasoning: str | None = None
    """What an assistant had thought before it answered."""
    tool_calls: list[ToolCall] = []
    """An assistant's calls; their results follow as messages of the role `tool`."""
    tool_call_id: str | None = None
    """Whose result a message of the role `tool` is."""


class ImageInfo(Record):
    """Describes one attachment frame. The bytes are the file as it came, never re-encoded."""

    sha256: str
    """Of the file's bytes, in hexadecimal."""
    media_type: str
    """`image/png`, `image/jpeg`, `image/webp` or `image/gif`."""
    width_px: Count
    """As the file says."""
    height_px: Count
    """As the file says."""


class Sampling(Record):
    """Per-request sampling. `None` means the model's own default (its generation config)."""

    seed: int
    """Of choice 0; choice i has `seed` + i. Equal seeds and jobs, equal answers."""
    temperature: Number | None = None
    """0 takes the likeliest token."""
    top_p: Number | None = None
    """Choose among the likeliest tokens that have this much probability together."""
    top_k: Small | None = None
    """Choose among so many likeliest tokens; 0: among all."""
    min_p: Number | None = None
    """Leave out what is less probable than this share of the likeliest token."""
    repetition_penalty: Number | None = None
    """Divides the positive logits of tokens in prompt or answer, multiplies the negative."""
    presence_penalty: Number = 0.0
    """Subtracted from the logit of each token that the answer has."""
    frequency_penalty: Number = 0.0
    """Subtracted as many times as the answer has the token."""
    logit_bias: dict[TokenId, Number] = {}
    """Added to these tokens' logits. The keys are integers."""


class Tool(Record):
    """A function the model may call."""

    name: str
    """What a call of it is named."""
    description: str = ""
    """What it is for, for the model."""
    parameters: dict[str, Any] = {}
    """A JSON schema of its arguments; empty: any object."""
    strict: bool = False
    """The client's wish that arguments match the schema exactly."""


class ToolPolicy(Record):
    """The functions that the model may or must call."""

    tools: list[Tool]
    """Never empty."""
    mode: Literal["auto", "required"] = "auto"
    """`auto`: the model may call; `required`: it must, and says nothing else."""
    name: str | None = None
    """With `required`: the one function to call."""
    parallel: bool = True
    """Whether an answer may have more than one call."""


class ResponseFormat(Record):
    """The answer is to be JSON."""

    schema: dict[str, Any] | None = None
    """The JSON schema of the whole answer; nil: any JSON object."""


class Resume(Record):
    """What one choice of a migrated job had produced: all its token ids, in order."""

    tokens: list[TokenId]
    """What the client has had, the first run's first."""
    finish_reason: FinishReason | None = None
    """Set when the choice was complete: there is nothing to do for it."""


class Job(Record):
    """One request, complete. Exactly one of `messages` and `prompt` is set."""

    id: str
    """Of this run: a job that is dispatched again comes under a new id."""
    answer_id: str
    """Of the answer: the same in every run; what clients see (tool-call ids) derives from it."""
    request_id: str
    """The client's request, for logs."""
    model: str
    """One of the worker's `models`, as the client named it."""
    stream: bool
    """Which kind of slot it takes. Deltas are sent in both cases."""
    sampling: Sampling
    """How tokens are chosen."""
    messages: list[ChatMessage] = []
    """A conversation, to be rendered by the model's chat template."""
    prompt: str | None = None
    """Text to go on from, without any template."""
    continue_final_message: bool = False
    """The last message is the assistant's: go on within it, do not open a new turn."""
    images: list[ImageInfo] = []
    """One for each attachment, in the same order."""
    max_tokens: Small | None = None
    """Of each choice's answer; nil: as many as the context has room for."""
    stop: list[str] = []
    """Texts that end the answer and are not part of it."""
    choices: ChoiceCount = 1
    """How many answers to the one prompt."""
    logprobs: LogprobCount | None = None
    """None: no logprobs; k: the chosen token's and the k likeliest (0 to 20)."""
    response_format: ResponseFormat | None = None
    """What the answer must look like; nil: anything."""
    tool_policy: ToolPolicy | None = None
    """Which functions may be called; nil: none."""
    template_options: dict[str, Any] = {}
    """Extra variables for the chat template (`enable_thinking`, `reasoning_effort`, ...)."""
    cache_salt: str = ""
    """Keeps the prefix caches of two tenants apart."""
    ignore_eos: bool = False
    """Go on after the end token, up to `max_tokens`."""
    echo: bool = False
    """Begin each answer's text with the prompt (only with `prompt`)."""
    resume: list[Resume] = []
    """Empty, or one for each choice: what earlier runs have produced. See "Resuming"."""


# --- worker to gateway ---------------------------------------------------------------------


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
    """Since the engine last came round, busy or idle. Compared with `stall_timeout_s`."""
    memory_bytes: Count = 0
    """What model and caches take."""
    gauges: dict[str, Gauge] = {}
    """Further figures, shown to people under their names; `tokens_per_second` is one of the
    metrics."""


class Accepted(FromWorker):
    """A slot is taken, the prompt is tokenized and fits; prefill comes next."""

    type_code = 3

    job: str
    """The run's id, `Job.id`."""
    prompt_tokens: Count
    """Length of the prompt, images included."""


class Rejected(FromWorker):
    """Not done here, through no fault of the job: it goes back to the head of the queue."""

    type_code = 4

    job: str
    """The run's id."""
    reason: RejectReason
    """See "Rejections"."""


class TokenLogprob(msgspec.Struct, frozen=True, array_like=True):
    """How likely a token was. An array on the wire."""

    token: str
    """The token's text; replacement characters where it is half a character."""
    bytes: list[int]
    """The token's bytes, each 0 to 255."""
    logprob: float
    """Natural logarithm of its probability by the model alone, before any sampling rule."""
    top: list[tuple[str, list[int], float]] = []
    """The `Job.logprobs` likeliest tokens as (text, bytes, logprob), likeliest first."""


class ToolCallDelta(msgspec.Struct, frozen=True, array_like=True):
    """A piece of a tool call. `id` and `name` come with its first piece. An array on the wire."""

    index: Count
    """Counts the calls of this choice from 0; one is complete before the next begins."""
    arguments: str = ""
    """The next piece of the JSON text."""
    id: str = ""
    """Unique in the answer, and the same when another worker goes on with the job."""
    name: str = ""
    """The function's."""


class Delta(msgspec.Struct, frozen=True, array_like=True):
    """What one choice of one job gained in one step. An array on the wire: it is the hot path.

    `sequence` counts a job's deltas from 0, anew on each worker it runs on; a gap means a lost
    message. `text` may be empty while tokens are held back (half a character, the possible start
    of a stop string); `tokens` never lag behind the engine.
    """

    job: str
    """The run's id."""
    sequence: Count
    """Counts this run's deltas from 0, those of all choices together."""
    choice: Count
    """Which answer, counted from 0."""
    tokens: list[TokenId]
    """Ids of all that was generated since the choice's last delta; also of what brought no text."""
    text: str = ""
    """What the answer has gained, in whole characters."""
    finish_reason: FinishReason | None = None
    """In the last delta of each choice, and in no other. See "Finish reasons"."""
    reasoning: str = ""
    """What the model's thoughts have gained, apart from `text`."""
    tool_calls: list[ToolCallDelta] = []
    """What its calls have gained."""
    logprobs: list[TokenLogprob] = []
    """When asked for: one for each token that is part of the answer (not its end token)."""


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


class Usage(Record):
    """What the job has cost, in tokens."""

    prompt_tokens: Count
    """Images included."""
    completion_tokens: Count
    """Of all choices and all runs together."""
    cached_tokens: Count = 0
    """Of the prompt: those that a cache spared."""
    image_tokens: Count = 0
    """Of the prompt: those that stand for images."""
    reasoning_tokens: Count = 0
    """Of the answers: thoughts."""


class Timings(Record):
    """Where the worker's time went, measured on the worker. Zero means: did not happen."""

    preprocess_s: Amount = 0.0
    """Template, tokenizer, images."""
    vision_s: Amount = 0.0
    """Encoding images."""
    prefill_s: Amount = 0.0
    """The prompt."""
    first_token_s: Amount = 0.0
    """From the job's arrival to its first token."""
    decode_s: Amount = 0.0
    """From the first token to the last."""
    total_s: Amount = 0.0
    """From the job's arrival to its end."""


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


# --- gateway to worker ---------------------------------------------------------------------


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


M = TypeVar("M", bound=Message)


def kinds(sender: type[M]) -> Iterator[type[M]]:
    """The kinds of `Message` that `FromWorker` or `FromGateway` sends, or both: all with a code."""
    for kind in sender.__subclasses__():
        if "type_code" in vars(kind):
            yield kind
        yield from kinds(kind)

"""What a job is made of."""

from __future__ import annotations

from typing import Any, Literal

from shared.messages.base import (
    ChoiceCount,
    Count,
    FinishReason,
    LogprobCount,
    Number,
    Record,
    Small,
    TokenId,
)


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
    """Describes one attachment frame. The bytes are the file as the client sent it, or what the
    gateway made of a file of another format."""

    sha256: str
    """Of the file's bytes, in hexadecimal."""
    media_type: str
    """`image/png`, `image/jpeg`, `image/webp` or `image/gif`."""
    width_px: Count
    """As the file says."""
    height_px: Count
    """As the file says."""
    longest_side_px: Count | None = None
    """Scale it down to that before the model's processor sees it; nil: it sees all."""


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
    """A JSON schema of its arguments; empty: it has none."""
    strict: bool = False
    """As `ResponseFormat.strict`, where the tool must be called."""


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
    strict: bool = False
    """What in the schema cannot be enforced fails the job; else it is named in `Accepted`."""


class Resume(Record):
    """What one choice of a migrated job had produced: all its token ids, in order."""

    tokens: list[TokenId]
    """What the client has had, the first run's first."""
    finish_reason: FinishReason | None = None
    """Set when the choice was complete: there is nothing to do for it."""


class Job(Record):
    """One request, complete. Exactly one of `messages`, `prompt` and `prompt_ids` is set."""

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
    prompt_ids: list[TokenId] = []
    """The same as token ids, which are taken as they are."""
    continue_final_message: bool = False
    """The last message is the assistant's: go on within it, do not open a new turn."""
    images: list[ImageInfo] = []
    """One for each attachment, in the same order."""
    min_pixels: Count | None = None
    """Of each image, for processors that scale to such bounds; nil: the model's own."""
    max_pixels: Count | None = None
    """Likewise."""
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
    """Begin each answer's text with the prompt (not with `messages`)."""
    prediction: str = ""
    """What the client expects to be answered. It may make the same answer faster; how much of it
    has come is told in `Usage`."""
    resume: list[Resume] = []
    """Empty, or one for each choice: what earlier runs have produced. See "Resuming"."""

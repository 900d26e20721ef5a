"""What an answer is made of."""

from __future__ import annotations

import msgspec

from shared.messages.base import Amount, Count, FinishReason, Record, TokenId


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
    accepted_prediction_tokens: Count = 0
    """Of the job's `prediction`, for each choice: those that have come in its answer."""
    rejected_prediction_tokens: Count = 0
    """And those that have not."""
    drafted_tokens: Count = 0
    """Tokens that the last run has tried because they were likely to come next."""
    accepted_draft_tokens: Count = 0
    """Of these: those that have come. What is drafted changes nothing but the time."""


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

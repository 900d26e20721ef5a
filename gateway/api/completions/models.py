"""The request of `POST /v1/completions`."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import ConfigDict, Discriminator, Field, Tag

from gateway.api.chat.models import StreamOptions
from gateway.api.common.parameters import (
    TAG,
    ListOf,
    honoured,
    refused,
)
from gateway.api.common.sampling import MAX_INT32, SamplingParameters, TokenLimit, WholeNumber

DEFAULT_MAX_TOKENS = 16
"""As the specification has it."""

MAX_ANSWERS = 128

Text = Annotated[str, Field(min_length=1)]
TokenIds = Annotated[ListOf[Annotated[int, Field(ge=0, le=MAX_INT32)]], Field(min_length=1)]


def _kind_of_prompt(value: Any) -> str | None:
    """All of a list is of the kind of its first."""
    if isinstance(value, str):
        return TAG + "string"
    if not isinstance(value, list):
        return None
    first = value[0] if value else ""
    if isinstance(first, list):
        return TAG + "lists"
    return TAG + ("strings" if isinstance(first, str) else "ids")


Prompt = Annotated[
    Annotated[Text, Tag(TAG + "string")]
    | Annotated[ListOf[Text], Field(min_length=1), Tag(TAG + "strings")]
    | Annotated[TokenIds, Tag(TAG + "ids")]
    | Annotated[ListOf[TokenIds], Tag(TAG + "lists")],
    Discriminator(
        _kind_of_prompt,
        custom_error_type="prompt_type",
        custom_error_message="must be a string, a list of token ids, or a list of either",
    ),
]


class CompletionRequest(SamplingParameters):
    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"model": "demo", "prompt": "Once upon a time", "max_tokens": 20}]
        }
    )

    prompt: Prompt = honoured(
        "the text to continue, or its token ids; or a list of such, each with answers of its own",
        default=...,
    )
    model: str | None = honoured("an id of /v1/models; may be left out when one model is served")
    stream: bool | None = honoured("send the text as server-sent events")
    stream_options: StreamOptions | None = honoured("include_usage adds a last chunk with usage")
    max_tokens: TokenLimit | None = honoured(
        f"longest continuation, in tokens; {DEFAULT_MAX_TOKENS} when left out, -1: no limit"
    )
    logprobs: WholeNumber | None = honoured(
        "return log probabilities, of this many likeliest tokens too; not with echo", ge=0, le=5
    )
    echo: bool | None = honoured("begin the answer with the prompt")

    suffix: Any = refused("text cannot be inserted before a suffix", "")

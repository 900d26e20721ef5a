"""The request of `POST /v1/completions`."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import ConfigDict, Discriminator, Field, Tag

from gateway.api.chat.models import StreamOptions
from gateway.api.common.parameters import TAG, honoured, refused, string_or_list
from gateway.api.common.sampling import SamplingParameters, TokenLimit, WholeNumber

DEFAULT_MAX_TOKENS = 16
"""As the specification has it."""

Prompt = Annotated[
    Annotated[str, Field(min_length=1), Tag(TAG + "string")]
    | Annotated[list[Annotated[str, Field(min_length=1)]], Field(min_length=1), Tag(TAG + "list")],
    Discriminator(
        string_or_list,
        custom_error_type="prompt_type",
        custom_error_message="must be a string",
    ),
]


class CompletionRequest(SamplingParameters):
    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"model": "demo", "prompt": "Once upon a time", "max_tokens": 20}]
        }
    )

    prompt: Prompt = honoured("the text to continue, or a list with that one text", default=...)
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

    best_of: Any = refused("use n, and choose among the answers", 1)
    suffix: Any = refused("text cannot be inserted before a suffix", "")

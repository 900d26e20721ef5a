"""The request of `POST /v1/completions`, and its translation."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import ConfigDict, Discriminator, Field, Tag

from gateway.api.chat.models import StreamOptions
from gateway.api.common.parameters import TAG, UNSUPPORTED, honoured, refused, string_or_list
from gateway.api.common.sampling import MAX_INT32, SamplingParameters
from gateway.errors import InvalidRequest
from gateway.generation import GenerationRequest

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
    max_tokens: int | None = honoured(
        f"longest continuation, in tokens; {DEFAULT_MAX_TOKENS} when left out", ge=1, le=MAX_INT32
    )
    logprobs: int | None = honoured(
        "return log probabilities, of this many likeliest tokens too; not with echo", ge=0, le=5
    )
    echo: bool | None = honoured("begin the answer with the prompt")

    best_of: Any = refused("use n, and choose among the answers", 1)
    suffix: Any = refused("text cannot be inserted before a suffix", "")

    def to_generation(self, *, tenant: str, vision_only: bool) -> GenerationRequest:
        """Raises InvalidRequest for what only shows when fields are seen together."""
        if self.stream_options is not None and not self.stream:
            raise InvalidRequest(
                "stream_options: is only allowed when stream is true.", param="stream_options"
            )
        if self.echo and self.logprobs is not None:
            raise InvalidRequest(
                "logprobs: the probabilities of an echoed prompt are not computed; "
                "leave echo or logprobs out.",
                param="logprobs",
                code=UNSUPPORTED,
            )
        if vision_only:
            raise InvalidRequest(
                "This server answers only requests with an image (--vision-only); "
                "use /v1/chat/completions.",
                param="prompt",
                code="text_only_not_supported",
            )
        return GenerationRequest(
            route="/v1/completions",
            model=self.model or None,
            stream=bool(self.stream),
            prompt=self._one_prompt(),
            sampling=self.sampling(),
            max_tokens=self.max_tokens or DEFAULT_MAX_TOKENS,
            stop=self.stops(),
            choices=self.n or 1,
            logprobs=self.logprobs,
            ignore_eos=bool(self.ignore_eos),
            echo=bool(self.echo),
            tenant=tenant,
        )

    def _one_prompt(self) -> str:
        if isinstance(self.prompt, str):
            return self.prompt
        if len(self.prompt) > 1:
            raise InvalidRequest(
                "prompt: send one text in one request; several requests are batched anyway.",
                param="prompt",
            )
        return str(self.prompt[0])

"""How a dialect shows a generation: the seam between the one path and the many dialects."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from hashlib import sha256
from typing import Any, Protocol

import msgspec
from starlette.responses import Response

from gateway.api.common.answer import CollectedAnswer
from gateway.errors import ApiError
from gateway.generation import Event
from shared.messages import Timings, TokenLogprob, Usage

encode = msgspec.json.Encoder().encode

DONE_EVENT = b"data: [DONE]\n\n"


@dataclass(frozen=True)
class Identity:
    """What every answer and every chunk of one generation repeats."""

    job_id: str
    model: str
    created: int = field(default_factory=lambda: int(time.time()))

    @property
    def system_fingerprint(self) -> str:
        return fingerprint(self.model)


@lru_cache(maxsize=64)
def fingerprint(model: str) -> str:
    """Changes when the model does; equal ones promise equal answers to equal seeds."""
    return "fp_" + sha256(model.encode()).hexdigest()[:10]


class Stream(Protocol):
    """Renders one stream. Each method returns the bytes of complete server-sent events."""

    def begin(self) -> bytes: ...

    def events(self, events: list[Event]) -> bytes:
        """Render news; the last one ends the stream, when it is `Done`."""

    def error(self, error: ApiError) -> bytes: ...


class Renderer(Protocol):
    """A dialect, for one request.

    Attributes:
        repeated_bytes: what of the request its answer repeats.
    """

    @property
    def repeated_bytes(self) -> int: ...

    def non_streaming(self, identity: Identity, answer: CollectedAnswer) -> bytes:
        """Return the JSON body of a complete answer."""

    def stream(self, identity: Identity) -> Stream: ...


def json_response(content: Any) -> Response:
    return Response(encode(content), media_type="application/json")


def usage_content(usage: Usage) -> dict[str, Any]:
    """Return OpenAI's `usage` object."""
    return {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.prompt_tokens + usage.completion_tokens,
        "prompt_tokens_details": {
            "cached_tokens": usage.cached_tokens,
            "image_tokens": usage.image_tokens,
            "audio_tokens": 0,
        },
        "completion_tokens_details": {
            "reasoning_tokens": usage.reasoning_tokens,
            "audio_tokens": 0,
            "accepted_prediction_tokens": usage.accepted_prediction_tokens,
            "rejected_prediction_tokens": usage.rejected_prediction_tokens,
        },
    }


def timings_content(timings: Timings) -> dict[str, float]:
    """Return where the worker's time went, in seconds; stands beside `usage`."""
    return {
        "preprocess_s": timings.preprocess_s,
        "vision_s": timings.vision_s,
        "prefill_s": timings.prefill_s,
        "first_token_s": timings.first_token_s,
        "decode_s": timings.decode_s,
        "total_s": timings.total_s,
    }


def logprob_content(entries: Sequence[TokenLogprob]) -> list[dict[str, Any]]:
    """Return OpenAI's `logprobs.content` list."""
    return [
        {
            "token": entry.token,
            "logprob": entry.logprob,
            "bytes": entry.bytes,
            "top_logprobs": [
                {"token": token, "logprob": logprob, "bytes": token_bytes}
                for token, token_bytes, logprob in entry.top
            ],
        }
        for entry in entries
    ]

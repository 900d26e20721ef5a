"""OpenAI's shapes of a text completion: one answer, and the chunks of a stream."""

from __future__ import annotations

import sys
from typing import Any

from gateway.api.common.answer import CollectedAnswer, CollectedChoice
from gateway.api.common.render import DONE_EVENT, Identity, encode, timings_content, usage_content
from gateway.api.completions.models import CompletionRequest
from gateway.errors import ApiError
from gateway.generation import Event, GenerationRequest
from gateway.http.error_body import error_event
from shared.messages import Delta, Done, TokenLogprob

MOST_ID_BYTES = 16
"""The text of a token id; most have a few letters."""


class CompletionRenderer:
    """Renders one request's answer."""

    def __init__(self, body: CompletionRequest, generation: GenerationRequest) -> None:
        self._choices = generation.answers
        self._include_usage = bool(body.stream_options and body.stream_options.include_usage)
        self._with_logprobs = generation.logprobs is not None
        self.repeated_bytes = _echoed_bytes(generation) if generation.echo else 0

    def non_streaming(self, identity: Identity, answer: CollectedAnswer) -> bytes:
        choices = [
            {
                "index": index,
                "text": choice.text,
                "logprobs": self._logprobs(choice),
                "finish_reason": choice.finish_reason,
            }
            for index, choice in enumerate(answer.choices)
        ]
        tail = {"usage": usage_content(answer.usage), "timings": timings_content(answer.timings)}
        return encode(_head(identity) | {"choices": choices} | tail)

    def _logprobs(self, choice: CollectedChoice) -> dict[str, Any] | None:
        return _logprobs(choice.logprobs, 0) if self._with_logprobs else None

    def stream(self, identity: Identity) -> CompletionStream:
        return CompletionStream(identity, self._choices, self._include_usage)


class CompletionStream:
    def __init__(self, identity: Identity, choices: int, include_usage: bool) -> None:
        self._head = b"data: " + encode(_head(identity))[:-1]
        self._tail = b'}],"usage":null}\n\n' if include_usage else b"}]}\n\n"
        self._include_usage = include_usage
        self._lengths = [0] * choices
        self._openings = [
            self._head + b',"choices":[{"index":%d,"text":' % index for index in range(choices)
        ]

    def begin(self) -> bytes:
        return b""

    def events(self, events: list[Event]) -> bytes:
        pieces: list[bytes] = []
        for event in events:
            if isinstance(event, Delta):
                self._add_delta(pieces, event)
            elif isinstance(event, Done):
                self._add_end(pieces, event)
        return b"".join(pieces)

    def error(self, error: ApiError) -> bytes:
        return error_event(error)

    def _add_delta(self, pieces: list[bytes], delta: Delta) -> None:
        if not (delta.text or delta.logprobs or delta.finish_reason):
            return
        logprobs = b"null"
        if delta.logprobs:
            logprobs = encode(_logprobs(delta.logprobs, self._lengths[delta.choice]))
            self._lengths[delta.choice] += sum(len(entry.token) for entry in delta.logprobs)
        pieces += (
            self._openings[delta.choice],
            encode(delta.text),
            b',"logprobs":' + logprobs,
            b',"finish_reason":' + encode(delta.finish_reason),
            self._tail,
        )

    def _add_end(self, pieces: list[bytes], done: Done) -> None:
        if self._include_usage:
            pieces += (self._head, b',"choices":[],"usage":', encode(usage_content(done.usage)))
            pieces += (b',"timings":', encode(timings_content(done.timings)), b"}\n\n")
        pieces.append(DONE_EVENT)


def _echoed_bytes(generation: GenerationRequest) -> int:
    """What its prompts take as texts, once for each choice."""
    sizes = (
        sys.getsizeof(prompt) if isinstance(prompt, str) else MOST_ID_BYTES * len(prompt)
        for prompt in generation.prompts
    )
    return generation.choices * sum(sizes)


def _head(identity: Identity) -> dict[str, Any]:
    return {
        "id": f"cmpl-{identity.job_id}",
        "object": "text_completion",
        "created": identity.created,
        "model": identity.model,
        "system_fingerprint": identity.system_fingerprint,
    }


def _logprobs(entries: list[TokenLogprob], offset: int) -> dict[str, Any]:
    """Return the older form of log probabilities; `offset` is where the first token begins."""
    offsets = []
    for entry in entries:
        offsets.append(offset)
        offset += len(entry.token)
    return {
        "tokens": [entry.token for entry in entries],
        "token_logprobs": [entry.logprob for entry in entries],
        "top_logprobs": [{token: value for token, _, value in entry.top} for entry in entries],
        "text_offset": offsets,
    }

"""OpenAI's shapes of a chat completion: one answer, and the chunks of a stream.

A chunk is built from bytes that are the same for all of the stream and the few that change: at
hundreds of tokens a second and stream nothing more is affordable.
"""

from __future__ import annotations

from typing import Any

from gateway.api.chat.models import ChatCompletionRequest
from gateway.api.common.answer import CollectedAnswer, CollectedChoice
from gateway.api.common.render import (
    DONE_EVENT,
    Identity,
    encode,
    logprob_content,
    timings_content,
    usage_content,
)
from gateway.errors import ApiError
from gateway.generation import Event, GenerationRequest
from gateway.http.error_body import error_event
from shared.messages import Delta, Done, ToolCallDelta


class ChatRenderer:
    """Renders one request's answer."""

    repeated_bytes = 0

    def __init__(self, body: ChatCompletionRequest, generation: GenerationRequest) -> None:
        self._choices = generation.choices
        self._include_usage = bool(body.stream_options and body.stream_options.include_usage)
        self._with_logprobs = generation.logprobs is not None

    def non_streaming(self, identity: Identity, answer: CollectedAnswer) -> bytes:
        return encode(
            {
                "id": f"chatcmpl-{identity.job_id}",
                "object": "chat.completion",
                "created": identity.created,
                "model": identity.model,
                "system_fingerprint": identity.system_fingerprint,
                "choices": [
                    self._choice(index, choice) for index, choice in enumerate(answer.choices)
                ],
                "usage": usage_content(answer.usage),
                "timings": timings_content(answer.timings),
            }
        )

    def stream(self, identity: Identity) -> ChatStream:
        return ChatStream(identity, self._choices, self._include_usage)

    def _choice(self, index: int, choice: CollectedChoice) -> dict[str, Any]:
        logprobs = {"content": logprob_content(choice.logprobs), "refusal": None}
        return {
            "index": index,
            "message": _message(choice),
            "logprobs": logprobs if self._with_logprobs else None,
            "finish_reason": choice.finish_reason,
        }


class ChatStream:
    """Renders the chunks of one stream."""

    def __init__(self, identity: Identity, choices: int, include_usage: bool) -> None:
        head: dict[str, Any] = {
            "id": f"chatcmpl-{identity.job_id}",
            "object": "chat.completion.chunk",
            "created": identity.created,
            "model": identity.model,
            "system_fingerprint": identity.system_fingerprint,
        }
        self._head = b"data: " + encode(head)[:-1]
        # With usage asked for, every chunk has the field, and only the last one's is not null.
        self._tail = b'}],"usage":null}\n\n' if include_usage else b"}]}\n\n"
        self._include_usage = include_usage
        self._choices = choices
        self._openings = [
            self._head + b',"choices":[{"index":%d,"delta":' % index for index in range(choices)
        ]
        self._plain_end = b',"logprobs":null,"finish_reason":null' + self._tail

    def begin(self) -> bytes:
        delta = b'{"role":"assistant","content":"","refusal":null}'
        return b"".join(opening + delta + self._plain_end for opening in self._openings)

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
        opening = self._openings[delta.choice]
        if delta.reasoning:
            content = b'{"reasoning_content":' + encode(delta.reasoning) + b"}"
            pieces += (opening, content, self._plain_end)
        if delta.logprobs:
            logprobs = encode({"content": logprob_content(delta.logprobs), "refusal": None})
            end = b',"logprobs":' + logprobs + b',"finish_reason":null' + self._tail
            pieces += (opening, b'{"content":', encode(delta.text), b"}", end)
        elif delta.text:
            pieces += (opening, b'{"content":', encode(delta.text), b"}", self._plain_end)
        if delta.tool_calls:
            content = encode({"tool_calls": [_tool_call_piece(p) for p in delta.tool_calls]})
            pieces += (opening, content, self._plain_end)
        if delta.finish_reason is not None:
            end = b',"logprobs":null,"finish_reason":' + encode(delta.finish_reason) + self._tail
            pieces += (opening, b"{}", end)

    def _add_end(self, pieces: list[bytes], done: Done) -> None:
        if self._include_usage:
            usage = encode(usage_content(done.usage))
            timings = encode(timings_content(done.timings))
            pieces += (self._head, b',"choices":[],"usage":', usage)
            pieces += (b',"timings":', timings, b"}\n\n")
        pieces.append(DONE_EVENT)


def _message(choice: CollectedChoice) -> dict[str, Any]:
    calls = choice.tool_calls
    text = choice.text
    message: dict[str, Any] = {
        "role": "assistant",
        "content": text if text or not calls else None,
        "refusal": None,
    }
    if choice.reasoning:
        message["reasoning_content"] = choice.reasoning
    if calls:
        message["tool_calls"] = [
            {
                "id": call.id,
                "type": "function",
                "function": {"name": call.name, "arguments": call.arguments},
            }
            for call in calls
        ]
    return message


def _tool_call_piece(piece: ToolCallDelta) -> dict[str, Any]:
    function: dict[str, Any] = {"arguments": piece.arguments}
    content: dict[str, Any] = {"index": piece.index}
    if piece.id:
        content |= {"id": piece.id, "type": "function"}
        function = {"name": piece.name, "arguments": piece.arguments}
    return content | {"function": function}

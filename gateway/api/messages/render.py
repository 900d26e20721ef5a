"""Anthropic's shapes of a message: one answer, and a stream of content blocks."""

from __future__ import annotations

from typing import Any

import msgspec

from gateway.api.common.answer import CollectedAnswer
from gateway.api.common.blocks import Block, BlockEvent, Blocks, Grown, Opened
from gateway.api.common.render import Identity, encode, timings_content
from gateway.errors import ApiError
from gateway.generation import Event
from gateway.http.error_body import anthropic_error_content
from shared.messages import Accepted, Delta, Done, FinishReason, Usage

STOP_REASONS: dict[FinishReason | None, str] = {
    "stop": "end_turn",
    "length": "max_tokens",
    "tool_calls": "tool_use",
}


class MessagesRenderer:
    repeated_bytes = 0

    def non_streaming(self, identity: Identity, answer: CollectedAnswer) -> bytes:
        choice = answer.choices[0]
        message = _message(identity) | {
            "content": [_block(block) for block in choice.blocks],
            **_end(choice.finish_reason, choice.stop),
            "usage": _usage(answer.usage),
            "timings": timings_content(answer.timings),
        }
        return encode(message)

    def stream(self, identity: Identity) -> MessagesStream:
        return MessagesStream(identity)


class MessagesStream:
    def __init__(self, identity: Identity) -> None:
        self._identity = identity
        self._started = False
        self._finish_reason: FinishReason | None = None
        self._blocks = Blocks()

    def begin(self) -> bytes:
        return b""

    def events(self, events: list[Event]) -> bytes:
        pieces: list[bytes] = []
        for event in events:
            if isinstance(event, Accepted):
                self._start(pieces, event.prompt_tokens)
                continue
            self._start(pieces, 0)
            if isinstance(event, Delta):
                self._finish_reason = event.finish_reason or self._finish_reason
                pieces += map(_block_event, self._blocks.add(event))
            else:
                self._end(pieces, event)
        return b"".join(pieces)

    def error(self, error: ApiError) -> bytes:
        return _event("error", {"error": anthropic_error_content(error)})

    def _start(self, pieces: list[bytes], prompt_tokens: int) -> None:
        if self._started:
            return
        self._started = True
        usage = _usage(Usage(prompt_tokens=prompt_tokens, completion_tokens=0))
        message = _message(self._identity) | {"content": [], "stop_reason": None, "usage": usage}
        pieces.append(_event("message_start", {"message": message}))

    def _end(self, pieces: list[bytes], done: Done) -> None:
        pieces += map(_block_event, self._blocks.end())
        delta = _end(self._finish_reason, next(iter(done.stops), None))
        pieces.append(_event("message_delta", {"delta": delta, "usage": _usage(done.usage)}))
        pieces.append(_event("message_stop", {}))


def token_count(tokens: int) -> dict[str, Any]:
    """Return the answer of `POST /v1/messages/count_tokens`."""
    return {"input_tokens": tokens}


def _event(kind: str, content: dict[str, Any]) -> bytes:
    return b"event: " + kind.encode() + b"\ndata: " + encode({"type": kind} | content) + b"\n\n"


def _message(identity: Identity) -> dict[str, Any]:
    return {
        "id": f"msg_{identity.job_id}",
        "type": "message",
        "role": "assistant",
        "model": identity.model,
        "stop_sequence": None,
    }


def _end(finish_reason: FinishReason | None, stop: str | None) -> dict[str, Any]:
    """A stop sequence after a tool call is not why the answer has ended."""
    if finish_reason == "stop" and stop is not None:
        return {"stop_reason": "stop_sequence", "stop_sequence": stop}
    return {"stop_reason": STOP_REASONS[finish_reason], "stop_sequence": None}


def _usage(usage: Usage) -> dict[str, Any]:
    """Anthropic counts what came from the cache apart."""
    return {
        "input_tokens": usage.prompt_tokens - usage.cached_tokens,
        "cache_read_input_tokens": usage.cached_tokens,
        "cache_creation_input_tokens": 0,
        "output_tokens": usage.completion_tokens,
    }


def _block(block: Block) -> dict[str, Any]:
    if block.kind == "call":
        arguments = _json_object(block.text)
        return {"type": "tool_use", "id": block.call_id, "name": block.name, "input": arguments}
    if block.kind == "reasoning":
        return {"type": "thinking", "thinking": block.text, "signature": ""}
    return {"type": "text", "text": block.text}


def _block_event(event: BlockEvent) -> bytes:
    index = event.block.index
    if isinstance(event, Opened):
        empty = Block(index, event.block.kind, event.block.call_id, event.block.name)
        return _event("content_block_start", {"index": index, "content_block": _block(empty)})
    if isinstance(event, Grown):
        return _event("content_block_delta", {"index": index, "delta": _delta(event)})
    return _event("content_block_stop", {"index": index})


def _delta(event: Grown) -> dict[str, str]:
    if event.block.kind == "call":
        return {"type": "input_json_delta", "partial_json": event.piece}
    if event.block.kind == "reasoning":
        return {"type": "thinking_delta", "thinking": event.piece}
    return {"type": "text_delta", "text": event.piece}


def _json_object(arguments: str) -> Any:
    """Return a call's arguments; what is no JSON object is handed on as text, not lost."""
    try:
        value = msgspec.json.decode(arguments or "{}")
    except msgspec.DecodeError:
        value = None
    return value if isinstance(value, dict) else {"text": arguments}

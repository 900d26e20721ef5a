"""OpenAI's shapes of a response: one object, and the events that build it up."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from gateway.api.common.answer import CollectedAnswer
from gateway.api.common.blocks import Block, BlockEvent, Blocks, Grown, Opened
from gateway.api.common.render import Identity, encode, logprob_content, timings_content
from gateway.api.responses.models import ResponsesRequest
from gateway.api.responses.tools import namespaced
from gateway.errors import ApiError
from gateway.generation import Event
from gateway.http.error_body import error_content
from shared.messages import Delta, Done, FinishReason, Timings, Usage

Piece = bytes | memoryview
Namespaced = dict[str, tuple[str, str]]
"""Namespace and name by the full name that the model calls a function by."""

ITEM_PREFIXES = {"text": "msg", "reasoning": "rs", "call": "fc"}
DUMPED = {"reasoning", "text", "tool_choice", "tools"}
TOLD = {"function", "namespace"}
PART_TYPES = {"text": "output_text", "reasoning": "reasoning_text"}


class ResponsesRenderer:
    def __init__(self, body: ResponsesRequest) -> None:
        # Once and as JSON: it may be of any size, and a stream repeats it three times.
        self._repeated = encode(repeated(body))
        self._namespaced = namespaced(body.tools)

    @property
    def repeated_bytes(self) -> int:
        return len(self._repeated)

    def non_streaming(self, identity: Identity, answer: CollectedAnswer) -> bytes:
        choice = answer.choices[0]
        *before, last = choice.blocks
        items = [item(block, identity, "completed", self._namespaced) for block in before]
        items.append(item(last, identity, _status(choice.finish_reason), self._namespaced))
        response = finished(identity, items, choice.finish_reason, answer.usage, answer.timings)
        return b"".join(_with_repeated(response, self._repeated))

    def stream(self, identity: Identity) -> ResponsesStream:
        return ResponsesStream(self._repeated, self._namespaced, identity)


class ResponsesStream:
    def __init__(self, repeated: bytes, namespaced: Namespaced, identity: Identity) -> None:
        self._repeated = repeated
        self._namespaced = namespaced
        self._identity = identity
        self._blocks = Blocks()
        self._items: list[dict[str, Any]] = []
        """Those that have ended, as they were told."""
        self._finish_reason: FinishReason | None = None
        self._sequence = 0

    def begin(self) -> bytes:
        response = unfinished(self._identity)
        created = self._response_event("response.created", response)
        return b"".join((*created, *self._response_event("response.in_progress", response)))

    def events(self, events: list[Event]) -> bytes:
        pieces: list[Piece] = []
        for event in events:
            if isinstance(event, Delta):
                self._finish_reason = event.finish_reason or self._finish_reason
                for change in self._blocks.add(event):
                    self._add_change(pieces, change, "completed")
            elif isinstance(event, Done):
                self._add_end(pieces, event)
        return b"".join(pieces)

    def error(self, error: ApiError) -> bytes:
        content = error_content(error)
        return self._event("error", **{**content, "type": "error"}, error=content)

    def _add_change(self, pieces: list[Piece], change: BlockEvent, status: str) -> None:
        """Args: status: of the item, should it end with this."""
        if isinstance(change, Grown):
            pieces.append(self._grown(change))
        elif isinstance(change, Opened):
            pieces += self._opened(change.block)
        else:
            pieces += self._closed(change.block, status)

    def _grown(self, grown: Grown) -> bytes:
        block = grown.block
        place = self._place(block)
        if block.kind == "call":
            kind = "response.function_call_arguments.delta"
            return self._event(kind, **place, delta=grown.piece)
        kind = f"response.{PART_TYPES[block.kind]}.delta"
        if block.kind == "text":
            place["logprobs"] = logprob_content(grown.logprobs)
        return self._event(kind, **place, content_index=0, delta=grown.piece)

    def _opened(self, block: Block) -> list[bytes]:
        empty = Block(block.index, block.kind, block.call_id, block.name)
        added = item(empty, self._identity, "in_progress", self._namespaced)
        if block.kind != "call":
            added["content"] = []
        events = [self._event("response.output_item.added", output_index=block.index, item=added)]
        if block.kind != "call":
            place = self._place(block) | {"content_index": 0, "part": part(empty)}
            events.append(self._event("response.content_part.added", **place))
        return events

    def _closed(self, block: Block, status: str) -> list[bytes]:
        place = self._place(block)
        if block.kind == "call":
            kind = "response.function_call_arguments.done"
            _, name = self._namespaced.get(block.name, ("", block.name))
            done = [self._event(kind, **place, name=name, arguments=block.text)]
        else:
            place["content_index"] = 0
            logprobs = {"logprobs": logprob_content(block.logprobs)}
            extra = logprobs if block.kind == "text" else {}
            kind = f"response.{PART_TYPES[block.kind]}.done"
            done = [
                self._event(kind, **place, text=block.text, **extra),
                self._event("response.content_part.done", **place, part=part(block)),
            ]
        ended = item(block, self._identity, status, self._namespaced)
        self._items.append(ended)
        done.append(self._event("response.output_item.done", output_index=block.index, item=ended))
        return done

    def _add_end(self, pieces: list[Piece], done: Done) -> None:
        status = _status(self._finish_reason)
        for change in self._blocks.end():
            self._add_change(pieces, change, status)
        response = finished(
            self._identity, self._items, self._finish_reason, done.usage, done.timings
        )
        pieces += self._response_event(f"response.{status}", response)

    def _place(self, block: Block) -> dict[str, Any]:
        return {"item_id": item_id(block, self._identity), "output_index": block.index}

    def _event(self, kind: str, **content: Any) -> bytes:
        return self._begun(kind) + encode(self._head(kind) | content) + b"\n\n"

    def _response_event(self, kind: str, response: dict[str, Any]) -> Sequence[Piece]:
        """Return the event in pieces, which are put together once."""
        start = self._begun(kind) + encode(self._head(kind))[:-1] + b',"response":'
        return (start, *_with_repeated(response, self._repeated), b"}\n\n")

    @staticmethod
    def _begun(kind: str) -> bytes:
        return b"event: " + kind.encode() + b"\ndata: "

    def _head(self, kind: str) -> dict[str, Any]:
        head = {"type": kind, "sequence_number": self._sequence}
        self._sequence += 1
        return head


def _with_repeated(response: dict[str, Any], repeated_json: bytes) -> Sequence[Piece]:
    """Return the JSON object with the members of both, in pieces."""
    return (encode(response)[:-1], b",", memoryview(repeated_json)[1:])


def repeated(body: ResponsesRequest) -> dict[str, Any]:
    """Return what a response repeats of its request."""
    # No warnings: members of a union are told apart by a function that knows JSON only.
    asked = body.model_dump(
        mode="json", by_alias=True, exclude_none=True, warnings=False, include=DUMPED
    )
    return {
        "background": False,
        "error": None,
        "instructions": body.instructions,
        "max_output_tokens": body.max_output_tokens,
        "metadata": body.metadata or {},
        "parallel_tool_calls": body.parallel_tool_calls is not False,
        "previous_response_id": None,
        "reasoning": {"effort": None, "summary": None} | asked.get("reasoning", {}),
        "store": False,
        "temperature": body.temperature,
        "text": {"format": {"type": "text"}} | asked.get("text", {}),
        "tool_choice": asked.get("tool_choice", "auto"),
        # What the model was told of: a client sees here that it was given no web search.
        "tools": [tool for tool in asked.get("tools", []) if tool["type"] in TOLD],
        "top_logprobs": body.top_logprobs or 0,
        "top_p": body.top_p,
        "truncation": "disabled",
        "user": body.user,
    }


def unfinished(identity: Identity) -> dict[str, Any]:
    """Return a response as it begins, without what it repeats."""
    return {
        "id": f"resp_{identity.job_id}",
        "object": "response",
        "created_at": identity.created,
        "model": identity.model,
        "status": "in_progress",
        "incomplete_details": None,
        "output": [],
        "usage": None,
    }


def finished(
    identity: Identity,
    items: list[dict[str, Any]],
    finish_reason: FinishReason | None,
    usage: Usage,
    timings: Timings,
) -> dict[str, Any]:
    cut = {"reason": "max_output_tokens"} if finish_reason == "length" else None
    return unfinished(identity) | {
        "status": _status(finish_reason),
        "completed_at": int(time.time()),
        "incomplete_details": cut,
        "output": items,
        "usage": {
            "input_tokens": usage.prompt_tokens,
            "input_tokens_details": {
                "cached_tokens": usage.cached_tokens,
                "cache_write_tokens": 0,
            },
            "output_tokens": usage.completion_tokens,
            "output_tokens_details": {"reasoning_tokens": usage.reasoning_tokens},
            "total_tokens": usage.prompt_tokens + usage.completion_tokens,
        },
        "timings": timings_content(timings),
    }


def item_id(block: Block, identity: Identity) -> str:
    return f"{ITEM_PREFIXES[block.kind]}_{identity.job_id}_{block.index}"


def item(block: Block, identity: Identity, status: str, namespaced: Namespaced) -> dict[str, Any]:
    """Return the output item of one block."""
    head = {"id": item_id(block, identity), "status": status}
    if block.kind == "call":
        namespace, name = namespaced.get(block.name, ("", block.name))
        call = {
            "type": "function_call",
            "call_id": block.call_id,
            "name": name,
            "arguments": block.text,
        }
        return head | call | ({"namespace": namespace} if namespace else {})
    if block.kind == "reasoning":
        return head | {"type": "reasoning", "summary": [], "content": [part(block)]}
    return head | {"type": "message", "role": "assistant", "content": [part(block)]}


def part(block: Block) -> dict[str, Any]:
    """Return the one content part of a text or reasoning item."""
    if block.kind == "reasoning":
        return {"type": "reasoning_text", "text": block.text}
    return {
        "type": "output_text",
        "text": block.text,
        "annotations": [],
        "logprobs": logprob_content(block.logprobs),
    }


def _status(finish_reason: FinishReason | None) -> str:
    return "incomplete" if finish_reason == "length" else "completed"

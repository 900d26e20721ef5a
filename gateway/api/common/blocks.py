"""One choice's deltas as blocks (reasoning, text, tool calls), for dialects that frame them.

Opened ─▶ Grown* ─▶ Closed, then the next block; never two at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import msgspec

from shared.messages import Delta, TokenLogprob

Kind = Literal["reasoning", "text", "call"]


@dataclass(slots=True)
class Block:
    """`call_id` and `name` are a tool call's."""

    index: int
    kind: Kind
    call_id: str = ""
    name: str = ""
    number: int = 0
    """Which of the answer's tool calls it is."""
    pieces: list[str] = field(default_factory=list)
    logprobs: list[TokenLogprob] = field(default_factory=list)

    @property
    def text(self) -> str:
        return "".join(self.pieces)


class Opened(msgspec.Struct, frozen=True):
    block: Block


class Grown(msgspec.Struct, frozen=True):
    block: Block
    piece: str
    logprobs: Sequence[TokenLogprob]


class Closed(msgspec.Struct, frozen=True):
    block: Block


BlockEvent = Opened | Grown | Closed


class Blocks:
    """Splits one choice into blocks; `closed` has those that are complete."""

    def __init__(self) -> None:
        self.closed: list[Block] = []
        self._open: Block | None = None

    def add(self, delta: Delta) -> list[BlockEvent]:
        events: list[BlockEvent] = []
        if delta.reasoning:
            self._grow(events, "reasoning", delta.reasoning)
        if delta.text or delta.logprobs:
            self._grow(events, "text", delta.text, delta.logprobs)
        for piece in delta.tool_calls:
            block = self._open
            if block is None or block.kind != "call" or block.number != piece.index:
                self._begin(events, "call", piece.id, piece.name, piece.index)
            self._grow(events, "call", piece.arguments)
        return events

    def end(self) -> list[BlockEvent]:
        """Close what is open. An empty answer is one empty text, not nothing."""
        events: list[BlockEvent] = []
        if self._open is None and not self.closed:
            self._begin(events, "text")
        self._close(events)
        return events

    def _grow(
        self,
        events: list[BlockEvent],
        kind: Kind,
        piece: str,
        logprobs: Sequence[TokenLogprob] = (),
    ) -> None:
        block = self._open
        if block is None or block.kind != kind:
            block = self._begin(events, kind)
        if piece or logprobs:
            block.pieces.append(piece)
            if logprobs:
                block.logprobs += logprobs
            events.append(Grown(block, piece, logprobs))

    def _begin(
        self,
        events: list[BlockEvent],
        kind: Kind,
        call_id: str = "",
        name: str = "",
        number: int = 0,
    ) -> Block:
        self._close(events)
        block = self._open = Block(len(self.closed), kind, call_id, name, number)
        events.append(Opened(block))
        return block

    def _close(self, events: list[BlockEvent]) -> None:
        if self._open is not None:
            events.append(Closed(self._open))
            self.closed.append(self._open)
            self._open = None

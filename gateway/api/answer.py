"""A whole answer, put together from the events that a stream would have shown one by one."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from gateway.generation import Event
from shared.messages import Delta, Done, FinishReason, Timings, TokenLogprob, ToolCall, Usage


@dataclass
class ChoiceAnswer:
    finish_reason: FinishReason | None = None
    text_pieces: list[str] = field(default_factory=list)
    reasoning_pieces: list[str] = field(default_factory=list)
    logprobs: list[TokenLogprob] = field(default_factory=list)
    _calls: dict[int, list[str]] = field(default_factory=dict)
    """Call number to its id, its name and the pieces of its arguments."""

    @property
    def text(self) -> str:
        return "".join(self.text_pieces)

    @property
    def reasoning(self) -> str:
        return "".join(self.reasoning_pieces)

    @property
    def tool_calls(self) -> list[ToolCall]:
        return [
            ToolCall(id=call[0], name=call[1], arguments="".join(call[2:]))
            for _, call in sorted(self._calls.items())
        ]

    def add(self, delta: Delta) -> None:
        if delta.text:
            self.text_pieces.append(delta.text)
        if delta.reasoning:
            self.reasoning_pieces.append(delta.reasoning)
        if delta.logprobs:
            self.logprobs += delta.logprobs
        for piece in delta.tool_calls:
            call = self._calls.setdefault(piece.index, ["", ""])
            call[0] = call[0] or piece.id
            call[1] = call[1] or piece.name
            call.append(piece.arguments)
        if delta.finish_reason is not None:
            self.finish_reason = delta.finish_reason


class Answer:
    """`done` is set once the answer is whole."""

    def __init__(self, choices: int) -> None:
        self.choices = [ChoiceAnswer() for _ in range(choices)]
        self.usage: Usage | None = None
        self.timings: Timings | None = None

    @property
    def done(self) -> bool:
        return self.usage is not None

    def add(self, events: Iterable[Event]) -> None:
        for event in events:
            if isinstance(event, Delta):
                self.choices[event.choice].add(event)
            elif isinstance(event, Done):
                self.usage, self.timings = event.usage, event.timings

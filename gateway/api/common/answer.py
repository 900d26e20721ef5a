"""A complete answer, put together from the events that a stream would have shown one by one."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from gateway.api.common.blocks import Block, Blocks, Kind
from gateway.generation import Event
from shared.messages import Delta, Done, FinishReason, Timings, TokenLogprob, ToolCall, Usage


class CollectedChoice:
    """One choice; `blocks` in the order they came."""

    def __init__(self) -> None:
        self.finish_reason: FinishReason | None = None
        self.stop: str | None = None
        """The stop string that ended it; known once the answer is complete."""
        self._blocks = Blocks()

    @property
    def blocks(self) -> list[Block]:
        return self._blocks.closed

    @property
    def text(self) -> str:
        return "".join(block.text for block in self._of("text"))

    @property
    def reasoning(self) -> str:
        return "".join(block.text for block in self._of("reasoning"))

    @property
    def tool_calls(self) -> list[ToolCall]:
        return [
            ToolCall(id=block.call_id, name=block.name, arguments=block.text)
            for block in self._of("call")
        ]

    @property
    def logprobs(self) -> list[TokenLogprob]:
        return [entry for block in self.blocks for entry in block.logprobs]

    def add(self, delta: Delta) -> None:
        self._blocks.add(delta)
        if delta.finish_reason is not None:
            self.finish_reason = delta.finish_reason

    def end(self) -> None:
        self._blocks.end()

    def _of(self, kind: Kind) -> list[Block]:
        return [block for block in self.blocks if block.kind == kind]


class CollectedAnswer:
    """`done` once the answer is complete; `usage` and `timings` are set then."""

    def __init__(self, choices: int) -> None:
        self.choices = [CollectedChoice() for _ in range(choices)]
        self.done = False
        self.usage = Usage(prompt_tokens=0, completion_tokens=0)
        self.timings = Timings()
        self.unenforced: Sequence[str] = ()
        """What of a schema the worker takes for a remark."""

    def add(self, events: Iterable[Event]) -> None:
        for event in events:
            if isinstance(event, Delta):
                self.choices[event.choice].add(event)
            elif isinstance(event, Done):
                self._end(event)
            else:
                self.unenforced = self.unenforced or event.unenforced

    def _end(self, done: Done) -> None:
        for choice in self.choices:
            choice.end()
        for choice, stop in zip(self.choices, done.stops, strict=False):
            choice.stop = stop
        self.usage, self.timings, self.done = done.usage, done.timings, True

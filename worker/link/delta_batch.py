"""What a worker has to say to one gateway about its jobs, gathered into few messages."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from shared.messages import Accepted, Delta, Deltas, Done

MAX_DELTAS_A_MESSAGE = 256
MAX_CHARACTERS_A_MESSAGE = 1 << 20
"""At most four bytes each: an echoed prompt comes once for each choice, all in one step."""


@dataclass
class DeltaBatch:
    """What one gateway's jobs have brought since the last time."""

    accepted: list[Accepted] = field(default_factory=list)
    items: list[Delta] = field(default_factory=list)
    done: list[Done] = field(default_factory=list)

    def messages(self) -> Iterator[Deltas]:
        """One message, unless it would grow too long; none when there is nothing."""
        accepted, items, characters = self.accepted, list[Delta](), 0
        for delta in self.items:
            length = _characters(delta)
            too_long = characters + length > MAX_CHARACTERS_A_MESSAGE
            if items and (too_long or len(items) == MAX_DELTAS_A_MESSAGE):
                yield Deltas(items=items, accepted=accepted)
                accepted, items, characters = [], [], 0
            items.append(delta)
            characters += length
        if accepted or items or self.done:
            yield Deltas(items=items, accepted=accepted, done=self.done)


def _characters(delta: Delta) -> int:
    length = len(delta.text) + len(delta.reasoning)
    for piece in delta.tool_calls:  # a sum over none takes longer than all else here
        length += len(piece.arguments)
    return length

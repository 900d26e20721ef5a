"""What a worker has to say to one gateway about its jobs, gathered into few messages."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from shared.messages import Accepted, Delta, Deltas, Done

MAX_DELTAS_A_MESSAGE = 256


@dataclass
class DeltaBatch:
    """What one gateway's jobs have brought since the last time."""

    accepted: list[Accepted] = field(default_factory=list)
    items: list[Delta] = field(default_factory=list)
    done: list[Done] = field(default_factory=list)

    def messages(self) -> Iterator[Deltas]:
        """One message, unless it would grow too long; none when there is nothing."""
        accepted, items = self.accepted, self.items
        while len(items) > MAX_DELTAS_A_MESSAGE:
            yield Deltas(items=items[:MAX_DELTAS_A_MESSAGE], accepted=accepted)
            accepted, items = [], items[MAX_DELTAS_A_MESSAGE:]
        if accepted or items or self.done:
            yield Deltas(items=items, accepted=accepted, done=self.done)

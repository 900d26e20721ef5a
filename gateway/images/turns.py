"""A bounded number of places, given out fairly between requests (self-clocked fair queueing).

Each turn is due when its request's turns so far, and this one, would be over if all requests were
served at the same speed; who is due first goes first. So a request with many or costly turns waits
behind itself, one that comes new waits for about one turn of each of the others, and nobody waits
for ever: the common clock moves on with every turn that begins.
"""

from __future__ import annotations

import asyncio
import bisect
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager


class Flow:
    """One request's turns: up to where on the common clock they are asked for, and how many of
    them are being taken."""

    def __init__(self) -> None:
        self.due = 0.0
        self.places = 0


class _Waiter:
    def __init__(self, flow: Flow, key: str) -> None:
        self.flow = flow
        self.key = key
        self.due = flow.due
        self.admitted = asyncio.get_running_loop().create_future()


class Turns:
    """
    Args:
        places: turns taken at once. A request gets a second one only while a quarter of them is
            free, so that those who have none find one.
        per_key: turns of one key taken at once; None: as many as there are places.
        room_for: whether there is room for so many turns at once, whatever they come to need. One
            at a time is always taken.
    """

    def __init__(
        self,
        places: int,
        per_key: int | None = None,
        room_for: Callable[[int], bool] = lambda turns: True,
    ) -> None:
        self._places = self._free = places
        self._room_for = room_for
        self._kept_free = places // 4
        self._per_key = places if per_key is None else per_key
        self._taken: Counter[str] = Counter()
        self._clock = 0.0
        self._waiting: list[_Waiter] = []

    @property
    def keys(self) -> set[str]:
        """Those that turns are taken for at the moment: no others are remembered."""
        return set(self._taken)

    @asynccontextmanager
    async def turn(self, flow: Flow, cost: float, key: str = "") -> AsyncIterator[None]:
        """Wait for a place and hold it for the block.

        Args:
            cost: how much of a place's time it will probably take, in any unit that is the same
                for all turns.
        """
        flow.due = max(flow.due, self._clock) + cost
        waiter = _Waiter(flow, key)
        bisect.insort(self._waiting, waiter, key=lambda other: other.due)
        self._admit()
        try:
            await waiter.admitted
            yield
        finally:
            if waiter.admitted.done() and not waiter.admitted.cancelled():
                self._leave(waiter)
            else:
                self._waiting.remove(waiter)

    def _admit(self) -> None:
        for waiter in [*self._waiting]:
            taken = self._places - self._free
            if not self._free or (taken and not self._room_for(taken + 1)):
                return
            if self._may_enter(waiter):
                self._enter(waiter)

    def _may_enter(self, waiter: _Waiter) -> bool:
        # Cancelled, and about to leave the line by itself.
        if waiter.admitted.done():
            return False
        first = waiter.flow.places == 0
        return self._taken[waiter.key] < self._per_key and (first or self._free > self._kept_free)

    def _enter(self, waiter: _Waiter) -> None:
        self._waiting.remove(waiter)
        self._free -= 1
        self._taken[waiter.key] += 1
        waiter.flow.places += 1
        self._clock = max(self._clock, waiter.due)
        waiter.admitted.set_result(None)

    def _leave(self, waiter: _Waiter) -> None:
        self._free += 1
        waiter.flow.places -= 1
        self._taken[waiter.key] -= 1
        if not self._taken[waiter.key]:
            del self._taken[waiter.key]
        self._admit()

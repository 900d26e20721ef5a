"""A bounded number of places, given out fairly between clients, and between a client's requests.

Self-clocked fair queueing, twice. A client that has taken much stands behind those that have taken
less; who comes new starts where those stand who are being served: idleness saves up nothing.
Among one client's requests each turn is due when the request's turns so far, and this one, would be
over if all were served at the same speed; who is due first goes first. Nobody waits for ever: the
clocks move on with every turn that begins.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class Flow:
    """One request's turns: up to where on its client's clock they are asked for, and how many of
    them are being taken.

    Args:
        client: whose request it is.
    """

    def __init__(self, client: str = "") -> None:
        self.client = client
        self.due = 0.0
        self.places = 0


class _Client:
    def __init__(self, served: float) -> None:
        self.served = served
        """Where on the common clock the turns end that it has begun."""
        self.clock = 0.0
        self.places = 0
        self.waiting = 0


class _Waiter:
    def __init__(self, flow: Flow, client: _Client, cost: float, key: str) -> None:
        self.flow = flow
        self.client = client
        self.cost = cost
        self.key = key
        self.due = flow.due
        self.admitted = asyncio.get_running_loop().create_future()


class Turns:
    """
    Args:
        places: turns taken at once. The last quarter is for clients that have none, and half of
            that for requests that have none, so that those find one.
        per_key: turns of one key taken at once; None: as many as there are places.
    """

    def __init__(self, places: int, per_key: int | None = None) -> None:
        self._places = self._free = places
        self._kept_free = places // 4
        self._per_key = places if per_key is None else per_key
        self._taken: Counter[str] = Counter()
        self._clock = 0.0
        self._clients: dict[str, _Client] = {}
        self._waiting: list[_Waiter] = []

    @property
    def keys(self) -> set[str]:
        """Those that turns are taken for at the moment: no others are remembered."""
        return set(self._taken)

    @property
    def clients(self) -> set[str]:
        """Those that wait or take a turn: no others are remembered."""
        return set(self._clients)

    def charge(self, flow: Flow, cost: float) -> None:
        """Count in what a turn took beyond what it was thought to cost."""
        client = self._clients.get(flow.client)
        if client is not None:
            client.served += cost

    @asynccontextmanager
    async def turn(self, flow: Flow, cost: float, key: str = "") -> AsyncIterator[None]:
        """Wait for a place and hold it for the block.

        Args:
            cost: how much of a place's time it will probably take, in any unit that is the same
                for all turns.
        """
        client = self._clients.setdefault(flow.client, _Client(self._clock))
        flow.due = max(flow.due, client.clock) + cost
        waiter = _Waiter(flow, client, cost, key)
        client.waiting += 1
        self._waiting.append(waiter)
        self._admit()
        try:
            await waiter.admitted
            yield
        finally:
            if waiter.admitted.done() and not waiter.admitted.cancelled():
                self._leave(waiter)
            else:
                client.waiting -= 1
                self._waiting.remove(waiter)
            if not (client.waiting or client.places):
                self._clients.pop(flow.client, None)

    def _admit(self) -> None:
        while self._free:
            ready = [waiter for waiter in self._waiting if self._may_enter(waiter)]
            if not ready:
                return
            self._enter(min(ready, key=self._rank))

    def _rank(self, waiter: _Waiter) -> tuple[float, float]:
        return max(waiter.client.served, self._clock), waiter.due

    def _may_enter(self, waiter: _Waiter) -> bool:
        # Cancelled, and about to leave the line by itself.
        if waiter.admitted.done() or self._taken[waiter.key] >= self._per_key:
            return False
        if waiter.client.places == 0:
            return True
        kept_free = self._kept_free // 2 if waiter.flow.places == 0 else self._kept_free
        return self._free > kept_free

    def _enter(self, waiter: _Waiter) -> None:
        client = waiter.client
        self._waiting.remove(waiter)
        self._free -= 1
        self._taken[waiter.key] += 1
        waiter.flow.places += 1
        client.places += 1
        client.waiting -= 1
        client.clock = max(client.clock, waiter.due)
        begins = max(client.served, self._clock)
        self._clock = begins
        client.served = begins + waiter.cost
        waiter.admitted.set_result(None)

    def _leave(self, waiter: _Waiter) -> None:
        self._free += 1
        waiter.flow.places -= 1
        waiter.client.places -= 1
        self._taken[waiter.key] -= 1
        if not self._taken[waiter.key]:
            del self._taken[waiter.key]
        self._admit()

"""What all requests hold in memory together: their bodies, their pictures, the pixels of a picture
while it is checked, and what an answer repeats of its request.

What does not fit waits in one line until others have given something back:

- A large body waits before any of it is read, and holds nothing meanwhile. Bodies leave half of
  the budget to what requests come to need later, and one client's leave half of that to others, but
  for the one body that could not come in otherwise. The client that holds least is next.
- A request that needs more, for its pictures or its answer, comes before all bodies; the oldest
  first. Only the oldest may use all of the budget, the others half of it, so that they do not fill
  it with parts of which none is whole. None holds a place that others need while it waits.

So the oldest of them goes on whenever anybody ends. If everybody who holds something waits for
more, nobody would ever end: then the youngest is refused, which makes room for the others.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable
from types import TracebackType

from starlette.types import Scope

from gateway.errors import BodyTooLarge, QueueFull

RETRY_S = 1.0

LARGE_BYTES = 1 << 20
"""A body below is not worth a place in line: it is taken as it comes, or refused."""


class _Waiter:
    def __init__(self, holding: Holding, size_bytes: int, param: str | None, is_body: bool) -> None:
        self.holding = holding
        self.size_bytes = size_bytes
        self.param = param
        self.is_body = is_body
        self.admitted = asyncio.get_running_loop().create_future()


class MemoryBudget:
    """Bytes that all requests may hold at once.

    Args:
        max_bytes: `--max-buffered-bytes`.
        freed: told of whatever is given back.
    """

    def __init__(self, max_bytes: int, freed: Callable[[int], None]) -> None:
        self.max_bytes = max_bytes
        self.used_bytes = 0
        self._freed = freed
        self._ages = itertools.count()
        self._holders: set[Holding] = set()
        self._held_by: dict[str, int] = {}
        """Bytes by client; only those who hold any."""
        self._line: list[_Waiter] = []
        self._growing: set[Holding] = set()
        """Requests whose pictures are being loaded, or that wait for what their answer takes."""
        self._called: set[Holding] = set()
        """Those of them whose turn it is, and who have not come yet."""

    def open(self, client: str = "") -> Holding:
        """
        Args:
            client: whose request it is.
        """
        return Holding(self, client)

    def fits(self, size_bytes: int) -> bool:
        return self.used_bytes + size_bytes <= self.max_bytes

    def is_all_of(self, owner: Holding) -> bool:
        """Whether nobody but this request holds anything."""
        return all(holder.owner is owner for holder in self._holders)

    def grows(self, holding: Holding) -> int:
        """Return how old the request is."""
        self._growing.add(holding)
        return next(self._ages)

    def has_grown(self, holding: Holding) -> None:
        self._called.discard(holding)
        if holding in self._growing:
            self._growing.remove(holding)
            self._admit()

    def changed(self, holding: Holding, more_bytes: int) -> None:
        """Told by each holding of what it takes and gives back."""
        self.used_bytes += more_bytes
        of_client = self._held_by.pop(holding.client, 0) + more_bytes
        if of_client:
            self._held_by[holding.client] = of_client
        if holding.held_bytes:
            self._holders.add(holding)
        else:
            self._holders.discard(holding)
        if more_bytes < 0:
            self._freed(-more_bytes)
            if self._line:  # as a rule nobody waits, and each request comes by here
                self._admit()

    def hold_if_free(self, holding: Holding, size_bytes: int) -> bool:
        """Hold so much more if there is room and nobody waits who comes before."""
        self._called.discard(holding.owner)
        before = (w for w in self._line if not w.is_body and w.holding.age < holding.age)
        if any(before) or not self._has_room(holding, size_bytes):
            return False
        holding.hold(size_bytes)
        self._admit()
        return True

    async def wait(self, waiter: _Waiter) -> None:
        """Wait until it is the waiter's turn; what is for a body is held then.

        Raises:
            QueueFull: nobody would end.
        """
        self._line.append(waiter)
        self._admit()
        try:
            await waiter.admitted
        except asyncio.CancelledError:
            admitted = waiter.admitted
            if admitted.done() and not admitted.cancelled() and admitted.exception() is None:
                waiter.holding.give_back(waiter.size_bytes if waiter.is_body else 0)
                self._admit()
            raise
        finally:
            if waiter in self._line:
                self._line.remove(waiter)
                self._admit()

    def _admit(self) -> None:
        while (waiter := self._next()) is not None:
            self._line.remove(waiter)
            waiter.admitted.set_result(None)
            if not waiter.is_body:
                # One at a time: it is going to hold it, or somebody else to end before it can.
                self._called.add(waiter.holding.owner)
                return
            waiter.holding.hold(waiter.size_bytes)
        self._refuse_if_stuck()

    def _next(self) -> _Waiter | None:
        """Who of those in line has room. The first for whom all is too full stops the others."""
        for waiter in sorted(self._line, key=self._rank):
            if waiter.admitted.done():
                continue
            if waiter.is_body and self._is_beyond_its_share(waiter):
                continue
            judge = self._has_door_room if waiter.is_body else self._has_room
            return waiter if judge(waiter.holding, waiter.size_bytes) else None
        return None

    def _has_room(self, holding: Holding, size_bytes: int) -> bool:
        oldest = min(self._growing, key=lambda grower: grower.age, default=holding.owner)
        most_bytes = self.max_bytes if holding.owner is oldest else self.max_bytes // 2
        return self.used_bytes + size_bytes <= most_bytes

    def _rank(self, waiter: _Waiter) -> tuple[bool, int]:
        if waiter.is_body:
            return True, self._held_by.get(waiter.holding.client, 0)
        return False, waiter.holding.age

    def _has_door_room(self, holding: Holding, size_bytes: int) -> bool:
        if self.used_bytes + size_bytes <= self.max_bytes // 2:
            return True
        alone = all(holder.held_bytes < LARGE_BYTES for holder in self._holders)
        return alone and self.fits(size_bytes)

    def _is_beyond_its_share(self, waiter: _Waiter) -> bool:
        held = self._held_by.get(waiter.holding.client, 0)
        return held >= LARGE_BYTES and held + waiter.size_bytes > self.max_bytes // 4

    def _refuse_if_stuck(self) -> None:
        waiting = [w for w in self._line if not w.is_body and not w.admitted.done()]
        if not waiting:
            return
        owners = {waiter.holding.owner for waiter in waiting} - self._called
        if all(holder in owners for holder in self._holders):
            youngest = max(waiting, key=lambda waiter: waiter.holding.age)
            youngest.admitted.set_exception(QueueFull(retry_after_s=RETRY_S, param=youngest.param))


class Holding:
    """What one request holds of the budget; all of it is given back at the end of its block."""

    def __init__(self, budget: MemoryBudget, client: str, owner: Holding | None = None) -> None:
        self.held_bytes = 0
        self.client = client
        self.owner = owner or self
        """The request that waits when this one does."""
        self._budget = budget
        self._age: int | None = None
        self._expected_bytes = 0
        """Of what it holds already: a body that is still to come."""

    @property
    def age(self) -> int:
        """Counted from when the request first needed more: it has a slot or place since then, so
        that the order is that of the slots, and nobody waits for memory of one behind it."""
        if self.owner is not self:
            return self.owner.age
        if self._age is None:
            self._age = self._budget.grows(self)
        return self._age

    def has_grown(self) -> None:
        """Say that the request needs nothing more."""
        self._budget.has_grown(self)

    @property
    def most_more_bytes(self) -> int:
        """How much more there could ever be for it."""
        return self._budget.max_bytes - self.owner.held_bytes

    def beside(self) -> Holding:
        """Return what the same request holds for a while, perhaps longer than itself."""
        return Holding(self._budget, self.client, self.owner)

    def __enter__(self) -> Holding:
        return self

    def __exit__(
        self,
        error_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.give_back(self.held_bytes)
        self.has_grown()

    async def wait_for_body(self, size_bytes: int) -> None:
        """Wait until a body of this size may come in; `take` counts it as it comes.

        Raises:
            BodyTooLarge: it is more than there is for all.
        """
        self.check(size_bytes)
        await self._budget.wait(_Waiter(self, size_bytes, None, is_body=True))
        self._expected_bytes = size_bytes

    def hold_if_free(self, size_bytes: int) -> bool:
        """Hold so much more if there is room at once, and none waits who comes before."""
        return self._budget.hold_if_free(self, size_bytes)

    async def hold_when_free(self, size_bytes: int, param: str | None = None) -> None:
        """Hold so much more once it is this request's turn and there is room. Raises as
        `until_room`."""
        while not self.hold_if_free(size_bytes):
            await self.until_room(size_bytes, param)

    async def until_room(self, size_bytes: int, param: str | None) -> None:
        """Wait until it is this request's turn and there is room, which is not held yet.

        Raises:
            BodyTooLarge: with what the request holds already it is more than there is for all.
            QueueFull: everybody waits for everybody.
        """
        self.check(size_bytes, param)
        await self._budget.wait(_Waiter(self, size_bytes, param, is_body=False))

    def take(self, size_bytes: int, param: str | None = None) -> None:
        """Count in what is about to be there.

        Args:
            param: the request's field that it is needed for; None: the body.

        Raises:
            BodyTooLarge: with what the request holds, and what is held beside it, it is more than
                there is for all.
            QueueFull: others hold too much at the moment.
        """
        expected = min(size_bytes, self._expected_bytes)
        self._expected_bytes -= expected
        more_bytes = size_bytes - expected
        if not self._budget.fits(more_bytes):
            self.check(more_bytes, param)
            if self._budget.is_all_of(self.owner):
                raise self._too_large(param)
            raise QueueFull(retry_after_s=RETRY_S, param=param)
        self.hold(more_bytes)

    def check(self, size_bytes: int, param: str | None = None) -> None:
        """Raises BodyTooLarge as `take` would, which is the same at any time."""
        if size_bytes > self.most_more_bytes:
            raise self._too_large(param)

    def _too_large(self, param: str | None) -> BodyTooLarge:
        return BodyTooLarge(
            f"The request takes more than {self._budget.max_bytes} bytes of memory, its images, "
            "their pixels and what its answer repeats of it included (--max-buffered-bytes); send "
            "less text, or fewer or smaller images.",
            param=param,
        )

    def hold(self, size_bytes: int) -> None:
        self.held_bytes += size_bytes
        self._budget.changed(self, size_bytes)

    def give_back(self, size_bytes: int) -> None:
        if size_bytes:
            self.held_bytes -= size_bytes
            self._budget.changed(self, -size_bytes)

    def keep(self, size_bytes: int) -> None:
        """Make so much of what is held beside the request its own."""
        self.held_bytes -= size_bytes
        self.owner.held_bytes += size_bytes
        self._budget.changed(self, 0)
        self._budget.changed(self.owner, 0)


def memory_of(scope: Scope) -> Holding:
    """Return what this request holds; `BodyBudget` put it there."""
    holding: Holding = scope["state"]["memory"]
    return holding

"""Slots and the queue: who runs, who waits, who is refused. No clock, no sockets.

A pool is one model's slots over all its workers, counted apart for streaming and for whole
answers. A whole answer takes a free slot, else waits its turn, else is refused; a stream takes a
free slot or is refused. `queue_size` bounds the waiting jobs of all pools together.

The capacity of a pool may shrink below what is in use when a worker goes: nobody is thrown out,
newcomers wait until enough have finished.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum

from gateway.dispatch.core.jobs import JobRecord


class Verdict(Enum):
    SLOT = "takes a slot"
    WAIT = "waits in the queue"
    REFUSE = "no room"


@dataclass
class Pool:
    slots: int = 0
    stream_slots: int = 0
    active: int = 0
    active_streams: int = 0
    waiting: deque[JobRecord] = field(default_factory=deque)


class Admission:
    """First come, first served, one queue for each pool."""

    def __init__(self, queue_size: int) -> None:
        self.queue_size = queue_size
        self._pools: dict[str, Pool] = {}
        self._waiting = 0

    @property
    def waiting(self) -> int:
        return self._waiting

    @property
    def active(self) -> int:
        return sum(pool.active + pool.active_streams for pool in self._pools.values())

    def pool(self, name: str) -> Pool:
        return self._pools.setdefault(name, Pool())

    def judge(self, name: str, *, stream: bool) -> Verdict:
        """What would become of a newcomer, changing nothing."""
        pool = self.pool(name)
        if stream:
            return Verdict.SLOT if pool.active_streams < pool.stream_slots else Verdict.REFUSE
        if pool.active < pool.slots and not pool.waiting:
            return Verdict.SLOT
        return Verdict.WAIT if self._waiting < self.queue_size else Verdict.REFUSE

    def enter(self, record: JobRecord) -> None:
        """Count a job in: into a slot when `record.active`, else at the end of its queue."""
        pool = self.pool(record.pool)
        if record.active:
            self._occupy(pool, record.stream, 1)
        else:
            pool.waiting.append(record)
            self._waiting += 1

    def leave(self, record: JobRecord) -> list[JobRecord]:
        """Count a job out. Returns those who have got a slot by it, now `active`."""
        pool = self.pool(record.pool)
        if record.active:
            record.active = False
            self._occupy(pool, record.stream, -1)
        else:
            pool.waiting.remove(record)
            self._waiting -= 1
        return self._promote(pool)

    def resize(self, name: str, slots: int, stream_slots: int) -> list[JobRecord]:
        """Set a pool's capacity. Returns those who have got a slot by it, now `active`."""
        pool = self.pool(name)
        pool.slots, pool.stream_slots = slots, stream_slots
        promoted = self._promote(pool)
        if not (slots or stream_slots or pool.active or pool.active_streams or pool.waiting):
            del self._pools[name]
        return promoted

    def queues(self) -> Iterator[tuple[str, Pool]]:
        yield from self._pools.items()

    def _promote(self, pool: Pool) -> list[JobRecord]:
        promoted = []
        while pool.waiting and pool.active < pool.slots:
            record = pool.waiting.popleft()
            self._waiting -= 1
            record.active = True
            pool.active += 1
            promoted.append(record)
        return promoted

    @staticmethod
    def _occupy(pool: Pool, stream: bool, by: int) -> None:
        if stream:
            pool.active_streams += by
        else:
            pool.active += by

"""Slots and the queue: who runs, who waits, who is refused. No clock, no sockets.

A pool is one model's slots over all its workers, counted apart for streaming and for non-streaming
jobs. A non-streaming one takes a free slot, else waits its turn, else is refused; a stream takes a
free slot or is refused, unless the operator lets it wait in the same way, or its model is still to
be loaded. `queue_size` bounds the waiting jobs of all pools together. Counting a
prompt's tokens takes no slot; how many do so at once is bounded over all pools.

The capacity of a pool may shrink below what is in use when a worker goes: nobody is thrown out,
newcomers wait until enough have finished.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import Enum

from gateway.dispatch.core.changes import Changes
from gateway.dispatch.core.jobs import JobRecord, Kind

MAX_COUNTS = 100
"""Prompts being prepared, waiting or asked about, to be counted; the next is told to come back."""


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
    waiting_streams: deque[JobRecord] = field(default_factory=deque)

    def line(self, stream: bool) -> deque[JobRecord]:
        return self.waiting_streams if stream else self.waiting

    def has_free_slot(self, stream: bool) -> bool:
        if stream:
            return self.active_streams < self.stream_slots
        return self.active < self.slots

    @property
    def empty(self) -> bool:
        """Whether forgetting it would lose nothing."""
        return not (
            self.slots
            or self.stream_slots
            or self.active
            or self.active_streams
            or self.waiting
            or self.waiting_streams
        )


class Admission:
    """First come, first served, one queue for each pool and kind of slot."""

    def __init__(self, queue_size: int, streams_wait: bool, changes: Changes) -> None:
        self.queue_size = queue_size
        self._streams_wait = streams_wait
        self._changes = changes
        self._pools: dict[str, Pool] = {}
        self._waiting = 0
        self._counting = 0

    @property
    def waiting(self) -> int:
        return self._waiting

    @property
    def active(self) -> int:
        return sum(pool.active + pool.active_streams for pool in self._pools.values())

    def pool(self, name: str) -> Pool:
        return self._pools.setdefault(name, Pool())

    def free_slots(self, name: str, *, stream: bool = False) -> int:
        """Slots of a kind that no job holds; negative when workers have gone."""
        pool = self._pools.get(name, Pool())
        if stream:
            return pool.stream_slots - pool.active_streams
        return pool.slots - pool.active

    def has_slots(self, name: str) -> bool:
        """Whether anybody serves that model, however busy."""
        pool = self._pools.get(name)
        return pool is not None and bool(pool.slots or pool.stream_slots)

    def judge(self, name: str, kind: Kind, *, streams_awaited: int = 0) -> Verdict:
        """What would become of a newcomer, changing nothing.

        Args:
            streams_awaited: stream slots that the model will have when it is loaded; for so many
                streams wait.
        """
        if kind == "counting":
            return Verdict.SLOT if self._counting < MAX_COUNTS else Verdict.REFUSE
        pool = self.pool(name)
        stream = kind == "streaming"
        if pool.has_free_slot(stream) and not pool.line(stream):
            return Verdict.SLOT
        if stream and not self._streams_wait and len(pool.line(stream)) >= streams_awaited:
            return Verdict.REFUSE
        return Verdict.WAIT if self._waiting < self.queue_size else Verdict.REFUSE

    def enter(self, record: JobRecord) -> None:
        """Count a job in: into a slot when `record.active`, else at the end of its queue."""
        if record.active:
            self._occupy(record, 1)
        else:
            self.pool(record.pool).line(record.stream).append(record)
            self._waiting += 1

    def leave(self, record: JobRecord) -> None:
        """Count a job out. Its slot is given to nobody yet: see `promote`."""
        if record.active:
            record.active = False
            self._occupy(record, -1)
            self._changes.stirred.add(record.pool)
        else:
            self.pool(record.pool).line(record.stream).remove(record)
            self._waiting -= 1

    def resize(self, name: str, slots: int, stream_slots: int) -> None:
        """Set a pool's capacity."""
        pool = self.pool(name)
        pool.slots, pool.stream_slots = slots, stream_slots
        self._changes.stirred.add(name)

    def promote(self, name: str, now: float) -> list[JobRecord]:
        """Give free slots to those who have waited longest, and have a claim to one; to others
        where there are none. Returns them, now `active`."""
        pool = self._pools.get(name)
        if pool is None:
            return []
        promoted = []
        for stream, line in ((False, pool.waiting), (True, pool.waiting_streams)):
            while line and pool.has_free_slot(stream):
                record = next((r for r in line if r.has_claim(now)), line[0])
                line.remove(record)
                self._waiting -= 1
                record.active = True
                self._occupy(record, 1)
                promoted.append(record)
        if pool.empty:
            del self._pools[name]
        return promoted

    def exchange(self, holder: JobRecord, waiter: JobRecord) -> None:
        """Give the holder's slot to the waiter; it waits itself now, before all others."""
        line = self.pool(holder.pool).line(holder.stream)
        line.remove(waiter)
        line.appendleft(holder)
        holder.active, waiter.active = False, True

    def in_line(self, name: str) -> Iterable[JobRecord]:
        """The jobs that wait for a slot, streams apart, in their order."""
        pool = self._pools.get(name)
        return () if pool is None else pool.waiting

    def _occupy(self, record: JobRecord, by: int) -> None:
        if record.only_counts:
            self._counting += by
        elif record.stream:
            self.pool(record.pool).active_streams += by
        else:
            self.pool(record.pool).active += by

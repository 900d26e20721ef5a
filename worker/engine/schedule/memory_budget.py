"""How much memory jobs will want, so that a newcomer waits or is refused before it does harm.

On Metal, running out aborts the process and no Python code can catch it: the estimate is the only
protection of those who run.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import mlx.core as mx

from worker.engine.cache.footprint import Footprint
from worker.engine.faults import JobFault
from worker.engine.options import MemoryShare
from worker.engine.schedule.neighbours import Neighbours, Taken

log = logging.getLogger(__name__)

USABLE_SHARE = 0.9
"""The rest is for what the estimate does not know."""
EXPECTED_ANSWER_TOKENS = 2048
"""What is set aside for an answer without a limit of its own."""


@dataclass(frozen=True)
class Limit:
    """
    Attributes:
        usable_bytes: for this engine and those that share it.
        group: whose; "": it is this engine's alone; None: all engines of this machine share it.
    """

    usable_bytes: int
    group: str | None

    def sharers(self, others: Iterable[Taken]) -> list[Taken]:
        if self.group is None:
            return list(others)
        return [other for other in others if self.group and other.group == self.group]

    def lasting_bytes(self, others: Iterable[Taken]) -> int:
        """What those who share it do not give back while they live."""
        return sum(other.lasting_bytes for other in self.sharers(others))


class MemoryBudget:
    """
    Args:
        limit_bytes: what the device has for models and caches; None: the machine's memory.
        footprint: what one row takes.
        share: what this engine was told to keep to.
        neighbours: the other engines of this machine.

    Attributes:
        model_bytes: of the weights.
        working_bytes: what a step takes beside weights and caches.
        held_bytes: what caches that can be given up hold at the moment.
    """

    def __init__(
        self,
        limit_bytes: int | None,
        footprint: Footprint,
        share: MemoryShare | None = None,
        neighbours: Neighbours | None = None,
    ) -> None:
        total = limit_bytes if limit_bytes is not None else _machine_bytes()
        machine = Limit(int(total * USABLE_SHARE), None)
        self._share = share or MemoryShare()
        self._limits = _limits(machine, self._share)
        self._footprint = footprint
        self._neighbours = neighbours
        self._others: list[Taken] = []
        self.working_bytes = 0
        self.held_bytes = 0
        self.model_bytes = int(mx.get_active_memory())
        self._reserved: dict[str, int] = {}
        self._wanted: dict[str, int] = {}

    @property
    def usable_bytes(self) -> int:
        """What this engine may take beside what the others do not give back."""
        return min(limit.usable_bytes - limit.lasting_bytes(self._others) for limit in self._limits)

    @property
    def for_jobs_bytes(self) -> int:
        """What all its requests together may take."""
        return max(0, self.usable_bytes - self.model_bytes - self.working_bytes)

    @property
    def _lent_bytes(self) -> int:
        """How much of that the others have for requests of theirs, and for what they remember."""
        left = min(
            limit.usable_bytes - sum(other.all_bytes for other in limit.sharers(self._others))
            for limit in self._limits
        )
        return self.usable_bytes - left

    @property
    def wanted_by_others_bytes(self) -> int:
        """What the next requests of engines lack that share this one's memory."""
        return max(
            sum(other.wanted_bytes for other in limit.sharers(self._others))
            for limit in self._limits
        )

    def look_around(self) -> None:
        """Tell the other engines what is taken here, and learn what they have taken."""
        if self._neighbours is not None:
            self._neighbours.tell(self._taken)
            self._others = self._neighbours.others()

    @property
    def _taken(self) -> Taken:
        return Taken(
            group=self._share.group,
            claimed_bytes=self._share.claimed_bytes,
            fixed_bytes=self.model_bytes + self.working_bytes,
            passing_bytes=self.reserved_bytes + self.held_bytes,
            wanted_bytes=sum(self._wanted.values()),
        )

    @property
    def bytes_per_token(self) -> float:
        return self._footprint.bytes_per_token

    def gauges(self) -> dict[str, float]:
        return {
            "memory_bytes": float(mx.get_active_memory() + mx.get_cache_memory()),
            "memory_reserved_bytes": float(self.reserved_bytes),
            "memory_usable_bytes": float(self.usable_bytes),
            "cache_bytes_per_token": self.bytes_per_token,
        }

    def describe(self) -> None:
        """Log the estimate that admission goes by."""
        fields = {
            "model_bytes": self.model_bytes,
            "usable_bytes": self.usable_bytes,
            "cache_bytes_per_token": int(self.bytes_per_token),
            "cache_tokens": int(self.for_jobs_bytes / max(1.0, self.bytes_per_token)),
        }
        log.info("memory for key-value caches", extra={"fields": fields})
        if not self.for_jobs_bytes:
            log.warning("the model leaves no memory for requests%s", self._beside_others())

    def estimate(self, prompt_tokens: int, answer_tokens: int, rows: int, *, asked: bool) -> int:
        """Bytes that a job's rows will take at their longest.

        Args:
            asked: whether so long an answer was asked for; else the limit is only the model's.
        """
        answer = answer_tokens if asked else min(answer_tokens, EXPECTED_ANSWER_TOKENS)
        return rows * self._footprint.row_bytes(prompt_tokens + answer)

    def reserve(self, job_id: str, wanted_bytes: int) -> bool:
        """Set memory aside; False if it has to wait for others to finish, here or in other engines.

        Raises:
            JobFault: it would not fit even alone.
        """
        if wanted_bytes > self.for_jobs_bytes:
            raise JobFault(
                "out_of_memory",
                f"This request needs about {wanted_bytes >> 20} MiB of cache; this worker has "
                f"{self.for_jobs_bytes >> 20} MiB for all requests{self._beside_others()}. Shorten "
                "the prompt or the answer.",
            )
        short = self.shortage(wanted_bytes)
        if short <= 0:
            self._reserved[job_id] = wanted_bytes
            self._wanted.pop(job_id, None)
            self.look_around()  # another engine may have set aside the same bytes just now
            short = self.shortage()
        if short > 0:
            self.release(job_id)
            self._wanted[job_id] = short
        self.look_around()
        return short <= 0

    def _beside_others(self) -> str:
        lasting = max(limit.lasting_bytes(self._others) for limit in self._limits)
        return f", beside {lasting >> 20} MiB of other engines of this machine" if lasting else ""

    def grow(self, job_id: str, rows: Sequence[int]) -> None:
        """A job takes more than was set aside for it.

        Args:
            rows: how many tokens each of its rows has.
        """
        taken = sum(self._footprint.row_bytes(tokens) for tokens in rows)
        self._reserved[job_id] = max(self._reserved.get(job_id, 0), taken)

    def shortage(self, wanted_bytes: int = 0) -> int:
        """How much is missing for that much more; 0 or less if nothing is."""
        taken = self.reserved_bytes + self.held_bytes + self._lent_bytes
        return taken + wanted_bytes - self.for_jobs_bytes

    def release(self, job_id: str) -> None:
        self._reserved.pop(job_id, None)
        self._wanted.pop(job_id, None)

    @property
    def reserved_bytes(self) -> int:
        return sum(self._reserved.values())


def _limits(machine: Limit, share: MemoryShare) -> tuple[Limit, ...]:
    """An operator's own figure is believed, whatever else is on the machine."""
    if share.budget_bytes is None:
        return (machine,)
    told = Limit(share.budget_bytes, share.group)
    return (told,) if share.explicit else (told, machine)


def _machine_bytes() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")

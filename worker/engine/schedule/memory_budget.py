"""How much memory jobs will want, so that a newcomer waits or is refused before it does harm.

On Metal, running out aborts the process and no Python code can catch it: the estimate is the only
protection of those who run.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence

import mlx.core as mx

from worker.engine.cache.footprint import Footprint
from worker.engine.faults import JobFault

log = logging.getLogger(__name__)

USABLE_SHARE = 0.9
"""The rest is for what the estimate does not know."""
EXPECTED_ANSWER_TOKENS = 2048
"""What is set aside for an answer without a limit of its own."""


class MemoryBudget:
    """
    Args:
        limit_bytes: what models and caches may take; None: the machine's memory.
        footprint: what one row takes.

    Attributes:
        model_bytes: of the weights.
        working_bytes: what a step takes beside weights and caches.
        held_bytes: what caches that can be given up hold at the moment.
    """

    def __init__(self, limit_bytes: int | None, footprint: Footprint) -> None:
        total = limit_bytes if limit_bytes is not None else _machine_bytes()
        self.usable_bytes = int(total * USABLE_SHARE)
        self._footprint = footprint
        self.working_bytes = 0
        self.held_bytes = 0
        self.model_bytes = int(mx.get_active_memory())
        self._reserved: dict[str, int] = {}

    @property
    def for_jobs_bytes(self) -> int:
        return max(0, self.usable_bytes - self.model_bytes - self.working_bytes)

    @property
    def bytes_per_token(self) -> float:
        return self._footprint.bytes_per_token

    def describe(self) -> None:
        """Log the estimate that admission goes by."""
        fields = {
            "model_bytes": self.model_bytes,
            "usable_bytes": self.usable_bytes,
            "cache_bytes_per_token": int(self.bytes_per_token),
            "cache_tokens": int(self.for_jobs_bytes / max(1.0, self.bytes_per_token)),
        }
        log.info("memory for key-value caches", extra={"fields": fields})

    def estimate(self, prompt_tokens: int, answer_tokens: int, rows: int, *, asked: bool) -> int:
        """Bytes that a job's rows will take at their longest.

        Args:
            asked: whether so long an answer was asked for; else the limit is only the model's.
        """
        answer = answer_tokens if asked else min(answer_tokens, EXPECTED_ANSWER_TOKENS)
        return rows * self._footprint.row_bytes(prompt_tokens + answer)

    def reserve(self, job_id: str, wanted_bytes: int) -> bool:
        """Set memory aside; False if it has to wait for others to finish.

        Raises:
            JobFault: it would not fit even alone.
        """
        if wanted_bytes > self.for_jobs_bytes:
            raise JobFault(
                "out_of_memory",
                f"This request needs about {wanted_bytes >> 20} MiB of cache; this worker has "
                f"{self.for_jobs_bytes >> 20} MiB for all requests. Shorten the prompt or the "
                "answer.",
            )
        if self.shortage(wanted_bytes) > 0:
            return False
        self._reserved[job_id] = wanted_bytes
        return True

    def grow(self, job_id: str, rows: Sequence[int]) -> None:
        """A job takes more than was set aside for it.

        Args:
            rows: how many tokens each of its rows has.
        """
        taken = sum(self._footprint.row_bytes(tokens) for tokens in rows)
        self._reserved[job_id] = max(self._reserved.get(job_id, 0), taken)

    def shortage(self, wanted_bytes: int = 0) -> int:
        """How much is missing for that much more; 0 or less if nothing is."""
        return self.reserved_bytes + self.held_bytes + wanted_bytes - self.for_jobs_bytes

    def release(self, job_id: str) -> None:
        self._reserved.pop(job_id, None)

    @property
    def reserved_bytes(self) -> int:
        return sum(self._reserved.values())


def _machine_bytes() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")

"""How much memory jobs will want, so that a newcomer waits or is refused before it does harm.

On Metal, running out aborts the process and no Python code can catch it: the estimate is the only
protection of those who run.
"""

from __future__ import annotations

import logging
import os

import mlx.core as mx

from worker.engine.faults import JobFault

log = logging.getLogger(__name__)

USABLE_SHARE = 0.9
"""The rest is for activations and for what the estimate does not know."""
EXPECTED_ANSWER_TOKENS = 2048
"""What is set aside for an answer without a limit of its own."""


class MemoryBudget:
    """
    Args:
        limit_bytes: what models and caches may take; None: the machine's memory.
        bytes_per_token: key-value memory of one token in one row.
    """

    def __init__(self, limit_bytes: int | None, bytes_per_token: float) -> None:
        total = limit_bytes if limit_bytes is not None else _machine_bytes()
        self.usable_bytes = int(total * USABLE_SHARE)
        self.bytes_per_token = bytes_per_token
        self.model_bytes = int(mx.get_active_memory())
        self._reserved: dict[str, int] = {}

    @property
    def for_jobs_bytes(self) -> int:
        return max(0, self.usable_bytes - self.model_bytes)

    def describe(self) -> None:
        """Log the estimate that admission goes by."""
        fields = {
            "model_bytes": self.model_bytes,
            "usable_bytes": self.usable_bytes,
            "cache_bytes_per_token": int(self.bytes_per_token),
            "cache_tokens": int(self.for_jobs_bytes / max(1.0, self.bytes_per_token)),
        }
        log.info("memory for key-value caches", extra={"fields": fields})

    def estimate(self, prompt_tokens: int, answer_tokens: int, rows: int) -> int:
        """Bytes that a job's rows will take at their longest."""
        answer = min(answer_tokens, EXPECTED_ANSWER_TOKENS)
        return int((prompt_tokens + answer) * rows * self.bytes_per_token)

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
        if sum(self._reserved.values()) + wanted_bytes > self.for_jobs_bytes:
            return False
        self._reserved[job_id] = wanted_bytes
        return True

    def release(self, job_id: str) -> None:
        self._reserved.pop(job_id, None)

    @property
    def reserved_bytes(self) -> int:
        return sum(self._reserved.values())


def _machine_bytes() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")

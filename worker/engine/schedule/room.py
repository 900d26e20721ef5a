"""Who may come in for the memory there is, and who has to step aside when it runs short."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from worker.engine.cache.prefix import PrefixCache
from worker.engine.cache.vision import VisionCache
from worker.engine.schedule.memory_budget import MemoryBudget
from worker.engine.schedule.request import Request
from worker.engine.schedule.sequences import State

LOOK_EVERY_STEPS = 16
"""In each a row grows by a token."""


class Room:
    """What is only remembered gives way to requests, the least recently used first."""

    def __init__(self, memory: MemoryBudget, prefixes: PrefixCache, vision: VisionCache) -> None:
        self._memory = memory
        self._prefixes = prefixes
        self._vision = vision
        self._steps = 0

    def reserve(self, request: Request) -> bool:
        """Set memory aside for a request; False if it has to wait for others to finish.

        Raises:
            JobFault: it would not fit even alone.
        """
        sequences = request.unfinished
        wanted = _pixel_bytes(request) + self._memory.estimate(
            max(len(one.prompt_ids) + len(one.output_tokens) for one in sequences),
            max(one.limit - len(one.output_tokens) for one in sequences),
            len(sequences),
            asked=request.job.max_tokens is not None,
        )
        self._make(wanted)
        return self._memory.reserve(request.job.id, wanted)

    def exceeded_by(self, requests: Iterable[Request]) -> Request | None:
        """After a step: the youngest of those who decode, if they have come to take more than there
        is. On Metal the process would be aborted.

        Args:
            requests: in the order of their coming.
        """
        self._steps += 1
        if self._steps % LOOK_EVERY_STEPS:
            return None
        decoding = []
        for request in requests:
            rows = [row.fed for row in request.sequences if row.state is State.DECODING]
            if rows:
                decoding.append(request)
                self._memory.grow(request.job.id, rows)
        short = self._make(0) > 0
        return decoding[-1] if short and len(decoding) > 1 else None

    def _make(self, wanted_bytes: int) -> int:
        """Have caches give back what is missing; return what is missing still."""
        for cache in (self._prefixes, self._vision):
            self._memory.held_bytes = self._prefixes.bytes + self._vision.bytes
            shortage = self._memory.shortage(wanted_bytes)
            if shortage > 0:
                cache.give_back(shortage)
        self._memory.held_bytes = self._prefixes.bytes + self._vision.bytes
        return self._memory.shortage(wanted_bytes)


def _pixel_bytes(request: Request) -> int:
    """Of its pictures, until they are encoded."""
    arrays = request.prompt.inputs.values()
    return sum(value.nbytes for value in arrays if isinstance(value, np.ndarray))

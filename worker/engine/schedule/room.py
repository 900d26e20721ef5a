"""Who may come in for the memory there is, and who has to step aside when it runs short."""

from __future__ import annotations

import time
from collections.abc import Iterable

import mlx.core as mx
import numpy as np

from worker.engine.cache.prefix import PrefixCache
from worker.engine.cache.vision import VisionCache
from worker.engine.schedule.memory_budget import MemoryBudget
from worker.engine.schedule.request import Request
from worker.engine.schedule.sequences import State

LOOK_EVERY_STEPS = 16
"""In each a row grows by a token."""
LOOK_EVERY_S = 0.1
"""How long other engines wait at most for what is only remembered here."""


class Room:
    """What is only remembered gives way to requests, the least recently used first.

    Attributes:
        waits_for_others: the next request has not come in although nothing is set aside here: other
            engines of this machine have the memory.
    """

    def __init__(self, memory: MemoryBudget, prefixes: PrefixCache, vision: VisionCache) -> None:
        self._memory = memory
        self._prefixes = prefixes
        self._vision = vision
        self._steps = 0
        self._looked_at = -LOOK_EVERY_S
        self.waits_for_others = False

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
        self._memory.look_around()
        self._make(wanted)
        self.waits_for_others = False
        reserved = self._memory.reserve(request.job.id, wanted)
        self.waits_for_others = not reserved and not self._memory.reserved_bytes
        return reserved

    def look_around(self) -> None:
        """Now and then: give back what is only remembered if it is missing here or elsewhere."""
        now = time.monotonic()
        if now - self._looked_at < LOOK_EVERY_S:
            return
        self._looked_at = now
        self._memory.look_around()
        before = self._remembered_bytes
        self._make(0)
        if self._memory.wanted_by_others_bytes or self._remembered_bytes < before:
            mx.clear_cache()  # buffers that were freed are this process' still
            self._memory.look_around()

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
        self._memory.look_around()
        short = self._make(0) > 0
        return decoding[-1] if short and len(decoding) > 1 else None

    def _make(self, wanted_bytes: int) -> int:
        """Have caches give back what is missing, here and elsewhere; return what is missing here
        still."""
        self._memory.held_bytes = self._remembered_bytes
        missing = max(0, self._memory.shortage(wanted_bytes)) + self._memory.wanted_by_others_bytes
        for cache in (self._prefixes, self._vision):
            if missing > 0:
                before = cache.bytes
                cache.give_back(missing)
                missing -= before - cache.bytes
        self._memory.held_bytes = self._remembered_bytes
        return self._memory.shortage(wanted_bytes)

    @property
    def _remembered_bytes(self) -> int:
        return self._prefixes.bytes + self._vision.bytes


def _pixel_bytes(request: Request) -> int:
    """Of its pictures, until they are encoded."""
    arrays = request.prompt.inputs.values()
    return sum(value.nbytes for value in arrays if isinstance(value, np.ndarray))

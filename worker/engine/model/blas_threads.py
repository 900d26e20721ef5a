"""Over how many threads OpenBLAS splits the products of prefill and of decode.

Left alone it splits every larger one over all cores, and its threads wait for one another by
spinning. With small matrices that gains little or even loses, and it takes the cores away from
image preprocessing, the gateway and its clients. What pays depends on the model and the machine,
so both are timed once, before the first request.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable
from dataclasses import dataclass

from worker.engine.model import openblas
from worker.engine.model.device import has_gpu
from worker.engine.model.model import LoadedModel

log = logging.getLogger(__name__)

GIVEN = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS")
"""Environment variables by which whoever starts the worker decides himself."""

WORTH = 1.3
"""All threads must be so many times faster than one to be worth the cores that they occupy."""
LONG_S = 0.1
"""What takes longer on all threads has matrices large enough for them; it is not timed on one."""
TURNS = 5
ROWS, PROMPT_TOKENS = 8, 96


@dataclass(frozen=True)
class BlasThreads:
    prefill: int
    decode: int

    def for_prefill(self) -> None:
        openblas.use_threads(self.prefill)

    def for_decode(self) -> None:
        openblas.use_threads(self.decode)


def choose(model: LoadedModel) -> BlasThreads:
    """Time one thread against all; where there is no choice or it is made, nothing is timed."""
    most = openblas.thread_count()
    if not has_gpu():
        openblas.warn_if_missing()
    if most == 1 or has_gpu() or any(os.environ.get(name) for name in GIVEN):
        return BlasThreads(most, most)
    rows = ROWS if model.batchable else 1
    try:
        return BlasThreads(
            prefill=_faster(lambda: model.try_out(1, PROMPT_TOKENS), most),
            decode=_faster(lambda: model.try_out(rows, 1), most),
        )
    except Exception as error:
        # Models fail in their own ways; one that takes real requests only is served all the same.
        log.info("OpenBLAS keeps all its threads: %s", error)
        return BlasThreads(most, most)
    finally:
        openblas.use_threads(most)


def _faster(work: Callable[[], object], most: int) -> int:
    """1, or `most` if that is faster by enough."""
    spent_s: dict[int, list[float]] = {most: [], 1: []}
    for _ in range(TURNS):
        for threads, times in spent_s.items():
            openblas.use_threads(threads)
            started = time.perf_counter()
            work()
            times.append(time.perf_counter() - started)
            if threads == most and min(times) > LONG_S:
                return most
    return most if min(spent_s[1]) > WORTH * min(spent_s[most]) else 1

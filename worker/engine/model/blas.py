"""A CPU's BLAS: which one MLX gets, and over how many threads it splits a product.

MLX's Linux wheel brings the reference BLAS. Symbols of a library that was loaded globally before
win over it, so loading OpenBLAS first makes matrix products 10 to 30 times faster (512x1024 by
1024x1024: 277 ms against 10 ms on two cores). Nothing here imports MLX. On macOS, MLX uses Metal
and Accelerate; on a CUDA device nothing of this is used.

Left alone OpenBLAS splits every larger product over all cores, and its threads wait for one
another by spinning. With small matrices that gains little or even loses, and it takes the cores
away from image preprocessing, the gateway and its clients. What pays depends on the model and the
machine, so prefill and decode are both timed once, before the first request.
"""

from __future__ import annotations

import ctypes
import ctypes.util
import logging
import os
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
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

_loaded: list[ctypes.CDLL] = []


def load() -> str | None:
    """Load the first OpenBLAS that can be loaded and return its file; None where none is needed
    or found."""
    if sys.platform != "linux":
        return None
    for library in _candidates():
        try:
            _loaded[:] = [ctypes.CDLL(library, mode=ctypes.RTLD_GLOBAL)]
        except OSError:
            continue  # e.g. its libgfortran is missing
        return library
    return None


def is_loaded() -> bool:
    """Whether MLX computes with an OpenBLAS of ours."""
    return bool(_loaded)


def thread_count() -> int:
    """Over how many threads OpenBLAS may split a product; 1 where it is not loaded."""
    return int(_loaded[0].openblas_get_num_threads()) if _loaded else 1


def use_threads(count: int) -> None:
    """Change that for the whole process, from the next product on."""
    if _loaded:
        _loaded[0].openblas_set_num_threads(count)


@dataclass(frozen=True)
class BlasThreads:
    prefill: int
    decode: int

    def for_prefill(self) -> None:
        use_threads(self.prefill)

    def for_decode(self) -> None:
        use_threads(self.decode)


def choose_threads(model: LoadedModel, *, gpu: bool) -> BlasThreads:
    """Time one thread against all; where there is no choice or it is made, nothing is timed.

    Args:
        gpu: whether MLX computes elsewhere; then all of this is of no account.
    """
    most = thread_count()
    if sys.platform == "linux" and not gpu and not is_loaded():
        log.warning("no OpenBLAS found: MLX will be slow on this CPU (pip install cmeel-openblas)")
    if gpu or most == 1 or any(os.environ.get(name) for name in GIVEN):
        return BlasThreads(most, most)
    rows = ROWS if model.batchable else 1
    try:
        return BlasThreads(
            prefill=faster(lambda: model.try_out(1, PROMPT_TOKENS), most),
            decode=faster(lambda: model.try_out(rows, 1), most),
        )
    except Exception as error:
        # Models fail in their own ways; one that takes real requests only is served all the same.
        log.info("OpenBLAS keeps all its threads: %s", error)
        return BlasThreads(most, most)
    finally:
        use_threads(most)


def _candidates() -> Iterator[str]:
    """The package made for it, the system's, and the one that OpenCV's wheel carries."""
    for package, pattern in (("cmeel", "../cmeel.prefix/lib"), ("cv2", "../opencv_python.libs")):
        spec = find_spec(package)
        if spec is not None and spec.origin is not None:
            folder = Path(spec.origin).parent / pattern
            yield from (str(path) for path in sorted(folder.glob("libopenblas*.so")))
    system = ctypes.util.find_library("openblas")
    if system is not None:
        yield system


def faster(work: Callable[[], object], most: int) -> int:
    """On how many threads the work is worth doing: 1, or `most` if that is faster by enough."""
    spent_s: dict[int, list[float]] = {most: [], 1: []}
    for _ in range(TURNS):
        for threads, times in spent_s.items():
            use_threads(threads)
            started = time.perf_counter()
            work()
            times.append(time.perf_counter() - started)
            if threads == most and min(times) > LONG_S:
                return most
    return most if min(spent_s[1]) > WORTH * min(spent_s[most]) else 1

"""Whether two computations of the same thing differ by more than their precision explains."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import mlx.core as mx
import numpy as np
import numpy.typing as npt

from worker.engine.model.device import has_gpu

EXACT, SINGLE, HALF = 0.001, 0.02, 0.15
"""Root mean square of the differences of log probabilities, as a share of their spread over the
vocabulary. On a CPU, orders of summation make 1e-5 of it in single precision; a GPU may multiply
with fewer bits; in half precision they make some hundredths. A wrong mask, position or picture
makes tenths or more."""
HALF_WORST = 1.0
"""In half precision one place may differ more: an expert that is just chosen, or just not."""


@dataclass(frozen=True)
class Said:
    """An answer of the engine: its tokens, and (token, logprob) of the likeliest at each place."""

    tokens: list[int]
    likeliest: list[Mapping[int, float]]


def differences(said: Said, plain: mx.array) -> list[float]:
    """How far the engine is off at each place, as a share of the spread; infinite where either is
    not a number.

    Args:
        plain: [tokens, vocabulary].
    """
    rows = np.array(plain.astype(mx.float32))
    return [_difference(engine, row) for engine, row in zip(said.likeliest, rows, strict=True)]


def _difference(engine: Mapping[int, float], plain: npt.NDArray[np.float32]) -> float:
    own = np.array(list(engine.values()))
    theirs = plain[list(engine)]
    finite = plain[np.isfinite(plain)]
    if not finite.size or not np.isfinite(own).all() or not np.isfinite(theirs).all():
        return float("inf")
    apart = float(np.sqrt(np.mean((own - theirs) ** 2)))
    return apart / max(float(finite.std()), 1e-3)


def agree(off: Sequence[float], dtype: mx.Dtype) -> bool:
    """Whether so much is explained by the precision of `dtype`."""
    if dtype in (mx.float16, mx.bfloat16):
        return statistics.median_low(off) <= HALF and max(off) <= HALF_WORST
    return max(off) <= (SINGLE if has_gpu() else EXACT)

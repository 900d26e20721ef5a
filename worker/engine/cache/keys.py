"""What prompts are remembered under, and how a remembered one is handed out and taken in."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from worker.engine.cache.kv import Cache, Spans

Key = npt.NDArray[np.int64]
"""A prompt's tokens, each image's placeholders replaced by numbers made of its hash."""
Copied = Callable[[Spans], list[Cache]]
"""Copies spans out of the row that is to be remembered, computed or begun, each as a cache of its
own; the last one ends with the row, and a row whose kind cannot be cut is wanted as a whole."""

LEAST_TOKENS = 16
"""The shortest start that is kept or found: less costs less to compute than to keep."""


@dataclass(frozen=True)
class Hit:
    """A known start of a prompt.

    Attributes:
        length: how many tokens it has.
        cache: makes a row's cache of them, to be gone on with, with room for so many more.
    """

    length: int
    cache: Callable[[int], Cache]


def common_length(one: Key, other: Key) -> int:
    """How many numbers two keys share from their start."""
    shorter = min(len(one), len(other))
    differing = np.flatnonzero(one[:shorter] != other[:shorter])
    return int(differing[0]) if differing.size else shorter

"""How much of everything a check does: in full on a GPU, in little on a CPU."""

from __future__ import annotations

from dataclasses import dataclass

from worker.engine.model.device import has_gpu


@dataclass(frozen=True)
class Sizes:
    """
    Attributes:
        pictures: asked about at once.
        answers: compared, alone and in company.
        width, layers, head, vocabulary: of the model with random weights.
        dtype: of its weights.
        tokens: of an answer whose speed is measured.
        rounds: of each measurement, after one that warms up.
        prompt: tokens of a long prompt.
        churn_s: seconds of rows that leave and are replaced.
        steps: of the endurance run.
    """

    pictures: int
    answers: int
    width: int
    layers: int
    head: int
    vocabulary: int
    dtype: str
    tokens: int
    rounds: int
    prompt: int
    churn_s: float
    steps: int


FULL = Sizes(
    pictures=32,
    answers=32,
    width=2048,
    layers=20,
    head=128,
    vocabulary=32_000,
    dtype="bfloat16",
    tokens=128,
    rounds=3,
    prompt=2000,
    churn_s=12.0,
    steps=5000,
)
"""About a thousand million weights."""

LITTLE = Sizes(
    pictures=8,
    answers=6,
    width=128,
    layers=2,
    head=16,
    vocabulary=1000,
    dtype="float32",
    tokens=16,
    rounds=1,
    prompt=200,
    churn_s=2.0,
    steps=200,
)
"""Shows that every check runs; its figures say nothing."""


def sizes() -> Sizes:
    return FULL if has_gpu() else LITTLE

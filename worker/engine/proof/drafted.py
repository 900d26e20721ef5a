"""Drafts for a proof: of answers that are known, right in some places and wrong in others."""

from __future__ import annotations

from collections.abc import Sequence

from worker.engine.drafts.source import Drafts
from worker.engine.proof.asking import number_of
from worker.engine.schedule import sequences

LENGTHS = (4, 1, 2, 3)
"""Of drafts, one after the other, so that rows side by side have unlike ones."""
WRONG_EVERY = 3
"""Tokens."""


class Known:
    """Drafts for rows whose answers were asked for before.

    Args:
        answers: the tokens of each, in the order of asking.
    """

    def __init__(self, answers: Sequence[Sequence[int]]) -> None:
        self._answers = answers

    def __call__(self, row: sequences.Sequence) -> Drafts:
        number = number_of(row.request.job.id)
        return _PartlyRight(self._answers[number], number)


class _PartlyRight:
    def __init__(self, answer: Sequence[int], drafted: int) -> None:
        self._answer = answer
        self._said = 0
        self._drafted = drafted

    def push(self, token: int) -> None:
        self._said += 1

    def draft(self, most: int) -> list[int]:
        self._drafted += 1
        most = min(most, LENGTHS[self._drafted % len(LENGTHS)])
        places = range(self._said, min(len(self._answer), self._said + most))
        return [self._answer[at] ^ (at % WRONG_EVERY == WRONG_EVERY - 1) for at in places]

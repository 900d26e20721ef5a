"""Whether drafts pay: what a wider pass costs, against what its rows are likely to get out of it.

A pass over one token of each row takes its time for reading the weights; further tokens of each row
come cheaper, how much is measured when the model is loaded. How many of its drafted tokens a row
gets is what it got of earlier ones. A row whose drafts were wrong has none tried for a while, each
time for longer.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

EXTRAS = (1, 2, 4, 8, 16)
"""By how many tokens a row a pass may be wider."""
MOST_DRAFTED = max(EXTRAS)
MOST_PLACES = 160
"""Tokens of all rows in a pass: each has its logits, as long as the vocabulary."""
WORTH = 1.1
"""So many times as many tokens a second as without drafts are worth it: what is measured in rounds
at load does not tell all."""

AT_FIRST, WEIGHT = 0.6, 2.0
"""What is believed of a row's drafts before any is tried, and for how many tokens that counts."""
MEMORY = 48.0
"""For how many drafted tokens what happened to them counts."""
LEAST_RATE = 0.3
"""A row whose drafted tokens are right less often has none tried for a while."""
LEAST_REST, MOST_REST = 8, 256
"""For how many drafts: the first time, doubled each time after."""


@dataclass(frozen=True)
class Costs:
    """How many times as long as a pass with one token a row a wider one takes.

    Attributes:
        measured: for numbers of rows: for numbers of further tokens of each.
        drafting: for numbers of rows: what drafting a token of each takes, where a model does it.
    """

    measured: Mapping[int, Mapping[int, float]] = field(default_factory=dict)
    drafting: Mapping[int, float] = field(default_factory=dict)
    _known: dict[tuple[int, int], float] = field(default_factory=dict, init=False, compare=False)
    """What `of` has found so far: it is asked several times a step."""

    def of(self, rows: int, extra: int) -> float:
        """Between what was measured it is on a line; without any it is 1. With more rows than were
        measured, what a pass takes goes by how many tokens are in it."""
        known = self._known.get((rows, extra))
        if known is None:
            known = self._known[rows, extra] = self._interpolated(rows, extra)
        return known

    def _interpolated(self, rows: int, extra: int) -> float:
        if not self.measured:
            return 1.0
        most = max(self.measured)
        if rows > most:
            alike = (1 + extra) * rows / most - 1
            return self._of(most, alike) / self._of(most, rows / most - 1)
        counts = sorted(self.measured)
        return float(np.interp(rows, counts, [self._of(count, extra) for count in counts]))

    def of_drafting(self, rows: int) -> float:
        """As `of`, for each token that a model drafts of each row."""
        if not self.drafting:
            return 0.0
        counts = sorted(self.drafting)
        return float(np.interp(rows, counts, [self.drafting[count] for count in counts]))

    def _of(self, measured_rows: int, extra: float) -> float:
        return _between({0: 1.0, **self.measured[measured_rows]}, extra)


def _between(known: Mapping[int, float], at: float) -> float:
    """Beyond the last two the line goes on."""
    places: Any = np.array(sorted(known), np.float64)
    values = np.array([known[place] for place in sorted(known)])
    if at > places[-1]:
        slope = (values[-1] - values[-2]) / (places[-1] - places[-2])
        return float(values[-1] + slope * (at - places[-1]))
    return float(np.interp(at, places, values))


class Record:
    """What became of a row's drafts."""

    def __init__(self) -> None:
        self._right, self._tried = AT_FIRST * WEIGHT, WEIGHT
        self._rest, self._resting = LEAST_REST, 0

    @property
    def rate(self) -> float:
        """How likely a drafted token is right if those before it are."""
        return self._right / self._tried

    @property
    def rests(self) -> bool:
        """Whether none of its drafts is tried for now."""
        return self._resting > 0

    def expected(self, drafted: int) -> float:
        """How many of so many drafted tokens are likely to be right."""
        rate = self.rate
        return drafted if rate == 1.0 else rate * (1.0 - rate**drafted) / (1.0 - rate)

    def note(self, drafted: int, accepted: int) -> None:
        """So many were tried and so many were right, up to the first that was not."""
        tried = accepted + (accepted < drafted)
        fading = max(0.0, 1.0 - tried / MEMORY)
        self._right = self._right * fading + accepted
        self._tried = self._tried * fading + tried
        if self.rate < LEAST_RATE:
            self._resting, self._rest = self._rest, min(2 * self._rest, MOST_REST)
            self._right, self._tried = AT_FIRST * WEIGHT, WEIGHT
        elif drafted and accepted == drafted:
            self._rest = LEAST_REST

    def pass_over(self) -> None:
        """There was a draft while it rests."""
        self._resting -= 1


def widths(
    drafted: Sequence[int],
    records: Sequence[Record],
    costs: Costs,
    asked: Collection[int] = (),
) -> list[int]:
    """How many tokens of its draft each row should try in one pass; all none if it does not pay.

    Args:
        drafted: how many tokens there are for each row; 0 where it has no draft.
        costs: while none is measured, all that there is room for is tried.
        asked: rows whose drafts a model has yet to make.
    """
    rows = len(drafted)
    if not costs.measured:
        most = max(0, min(MOST_DRAFTED, MOST_PLACES // rows - 1))
        return [min(count, most) for count in drafted]
    tried = list(drafted)
    for row, record in enumerate(records):
        if tried[row] and record.rests:
            record.pass_over()
            tried[row] = 0
    longest = max(tried, default=0)
    dearer = costs.of_drafting(rows) if any(tried[row] for row in asked) else 0.0
    best, best_speed = 0, WORTH * rows
    for extra in EXTRAS:
        if not longest or rows * (1 + extra) > MOST_PLACES:
            break
        pairs = zip(tried, records, strict=True)
        tokens = rows + sum(record.expected(min(count, extra)) for count, record in pairs)
        width = min(extra, longest)
        speed = tokens / (costs.of(rows, width) + width * dearer)
        if speed > best_speed:
            best, best_speed = extra, speed
    return [min(count, best) for count in tried]

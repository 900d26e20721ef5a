"""Penalties for what was said already, and `logit_bias`: what is added to some rows' logits.

What each penalized row has said is counted on the device, in a table with a place for each row,
[places, vocabulary]. A newcomer is written into a free place, a leaver's place is free: nobody
else's counts are made anew.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import mlx.core as mx
import numpy as np
import numpy.typing as npt

from worker.engine.cache.arrays import start

if TYPE_CHECKING:
    from worker.engine.sampling.sampling import Rules

BLOCK_PLACES = 8
"""The table grows by so many places, copying everything once."""


@dataclass(frozen=True)
class Said:
    """What a newcomer has said.

    Attributes:
        prompt: the tokens of its prompt, which the repetition penalty concerns, too.
        answer: those of its answer, without any that is still to be fed.
    """

    prompt: Sequence[int]
    answer: Sequence[int]


class Penalties:
    """
    Args:
        vocabulary: how many logits a row has.
    """

    def __init__(self, vocabulary: int) -> None:
        self._vocabulary = vocabulary
        self._rules: list[Rules] = []
        self._places: list[int | None] = []
        self._counts: mx.array | None = None
        self._seen: mx.array | None = None
        self._arrays: _Arrays | None = None

    def join(self, rules: Sequence[Rules], said: Sequence[Said]) -> None:
        """Add rows, those that are not penalized, too."""
        for rule, known in zip(rules, said, strict=True):
            place = self._written(known) if rule.penalizes else None
            self._rules.append(rule)
            self._places.append(place)
        self._arrays = None

    def leave(self, keep: Sequence[int]) -> None:
        """Keep the rows with these numbers, in this order."""
        self._rules = [self._rules[number] for number in keep]
        self._places = [self._places[number] for number in keep]
        self._arrays = None
        taken = [place for place in self._places if place is not None]
        if not taken:
            self._counts = self._seen = None
        elif self._counts is not None and 4 * len(taken) <= self._counts.shape[0]:
            self._pack(taken)

    def apply(self, logits: mx.array, inputs: mx.array, fresh: Sequence[bool]) -> mx.array:
        """
        Args:
            logits: [rows, vocabulary].
            inputs: [rows], the tokens that went in; those of fresh rows end a prompt, the
                others are the newest of an answer.
        """
        if self._counts is None or self._seen is None:
            return logits
        arrays = self._count(inputs, fresh)
        counts, seen = self._counts[: arrays.span], self._seen[: arrays.span]
        mine = logits if arrays.all_in_order else logits[arrays.owners]
        mine = _penalized(mine, counts, seen, arrays.presence, arrays.frequency, arrays.repetition)
        if arrays.all_in_order:
            return mine
        logits[arrays.rows] = mine[arrays.places]
        return logits

    def apply_along(
        self,
        logits: mx.array,
        inputs: mx.array,
        fresh: Sequence[bool],
        drafts: Sequence[Sequence[int]],
    ) -> mx.array:
        """As `apply`, with several places for each row: after its input, and after each token of
        its draft, as if those before had been said.

        Args:
            logits: [places, vocabulary], row by row.
            drafts: of each row; `take` those that were said.
        """
        if self._counts is None or self._seen is None:
            return logits
        self._count(inputs, fresh)
        mine: list[int] = []
        places: list[int] = []
        its: list[Rules] = []
        before: list[tuple[int, int]] = []
        first = 0
        for row, draft in enumerate(drafts):
            place = self._places[row]
            for number in range(len(draft) + 1):
                if place is None:
                    break
                before += [(len(mine), token) for token in draft[:number]]
                mine.append(first + number)
                places.append(place)
                its.append(self._rules[row])
            first += len(draft) + 1
        chosen, counted = mx.array(mine), mx.array(places)
        counts = self._counts[counted]
        if before:
            lines, tokens = zip(*before, strict=True)
            counts = counts.at[mx.array(lines), mx.array(tokens)].add(mx.array(1, mx.uint16))
        logits[chosen] = _penalized(logits[chosen], counts, self._seen[counted], *_columns(its))
        return logits

    def take(self, row: int, tokens: Sequence[int]) -> None:
        """Count tokens of a draft that a row has said; its next input counts itself."""
        place = self._places[row]
        if place is not None and self._counts is not None and tokens:
            added = mx.array(1, mx.uint16)
            self._counts = self._counts.at[place, mx.array(list(tokens))].add(added)

    def _count(self, inputs: mx.array, fresh: Sequence[bool]) -> _Arrays:
        assert self._counts is not None
        arrays = self._arrays = self._arrays or _Arrays.of(self._rules, self._places)
        newest = mx.array([0 if fresh[row] else 1 for row in arrays.rows_list], mx.uint16)
        self._counts = self._counts.at[arrays.places, inputs[arrays.rows]].add(newest)
        return arrays

    def _written(self, known: Said) -> int:
        """Write what a row has said into a free place."""
        taken = {place for place in self._places if place is not None}
        place = next(place for place in range(len(taken) + 1) if place not in taken)
        self._reserve(place + 1)
        assert self._counts is not None and self._seen is not None
        self._counts[place] = mx.array(_histogram(known.answer, self._vocabulary))
        self._seen[place] = mx.array(_histogram(known.prompt, self._vocabulary) > 0)
        return place

    def _reserve(self, places: int) -> None:
        has = 0 if self._counts is None else self._counts.shape[0]
        if places <= has:
            return
        rounded = -(-places // BLOCK_PLACES) * BLOCK_PLACES
        shape = (max(places, min(2 * has, rounded)), self._vocabulary)
        counts, seen = mx.zeros(shape, mx.uint16), mx.zeros(shape, mx.bool_)
        if self._counts is not None and self._seen is not None:
            counts[:has], seen[:has] = self._counts, self._seen
        self._counts, self._seen = counts, seen

    def _pack(self, taken: Sequence[int]) -> None:
        """Give back the places that nobody has."""
        assert self._counts is not None and self._seen is not None
        chosen = mx.array(list(taken))
        self._counts, self._seen = self._counts[chosen], self._seen[chosen]
        start([self._counts, self._seen])
        fresh = iter(range(len(taken)))
        self._places = [None if place is None else next(fresh) for place in self._places]


@dataclass(frozen=True)
class _Arrays:
    """Which row has which place, and its rules.

    Attributes:
        rows, places: of the penalized rows.
        all_in_order: whether every row is penalized and its place is its number.
        span: how many places there are up to the last that is taken.
        owners: [span], the row of each place; of a free one, any.
        presence, frequency, repetition: [span, 1].
    """

    rows_list: list[int]
    rows: mx.array
    places: mx.array
    all_in_order: bool
    span: int
    owners: mx.array
    presence: mx.array
    frequency: mx.array
    repetition: mx.array

    @classmethod
    def of(cls, rules: Sequence[Rules], places: Sequence[int | None]) -> _Arrays:
        pairs = [(row, place) for row, place in enumerate(places) if place is not None]
        span = max(place for _, place in pairs) + 1
        owners = [pairs[0][0]] * span
        for row, place in pairs:
            owners[place] = row
        presence, frequency, repetition = _columns([rules[row] for row in owners])
        return cls(
            rows_list=[row for row, _ in pairs],
            rows=mx.array([row for row, _ in pairs]),
            places=mx.array([place for _, place in pairs]),
            all_in_order=list(places) == list(range(len(places))),
            span=span,
            owners=mx.array(owners),
            presence=presence,
            frequency=frequency,
            repetition=repetition,
        )


class Bias:
    """`logit_bias`, added where a row has one."""

    def __init__(self, rows: list[int], tokens: list[int], values: list[float]) -> None:
        self._rows, self._tokens = mx.array(rows), mx.array(tokens)
        self._values = mx.array(values, mx.float32)

    @classmethod
    def of(cls, rules: Sequence[Rules], vocabulary: int) -> Bias | None:
        found = [
            (row, token, value)
            for row, rule in enumerate(rules)
            for token, value in rule.logit_bias.items()
            if 0 <= token < vocabulary
        ]
        if not found:
            return None
        rows, tokens, values = zip(*found, strict=True)
        return cls(list(rows), list(tokens), list(values))

    def apply(self, logits: mx.array) -> mx.array:
        return logits.at[self._rows, self._tokens].add(self._values.astype(logits.dtype))


def _penalized(
    logits: mx.array,
    counts: mx.array,
    seen: mx.array,
    presence: mx.array,
    frequency: mx.array,
    repetition: mx.array,
) -> mx.array:
    """All [rows, vocabulary], or [rows, 1]."""
    mine = logits.astype(mx.float32)
    said = counts > 0
    repeated = mx.where(mine > 0, mine / repetition, mine * repetition)
    mine = mx.where(said | seen, repeated, mine)
    return (mine - frequency * counts - presence * said).astype(logits.dtype)


def _columns(rules: Sequence[Rules]) -> tuple[mx.array, mx.array, mx.array]:
    """Presence, frequency and repetition penalty."""
    return (
        _column([rule.presence_penalty for rule in rules]),
        _column([rule.frequency_penalty for rule in rules]),
        _column([rule.repetition_penalty for rule in rules]),
    )


def _column(values: Sequence[float]) -> mx.array:
    return mx.array(list(values), mx.float32)[:, None]


def _histogram(tokens: Sequence[int], vocabulary: int) -> npt.NDArray[np.uint16]:
    ids = np.array(tokens, np.int64)
    ids = ids[(ids >= 0) & (ids < vocabulary)]
    return np.bincount(ids, minlength=vocabulary)[:vocabulary].astype(np.uint16)

"""Drafts from what was said before: where the last tokens stood earlier, what followed them there.

A draft is a guess and may be anything: whoever takes it checks it. So what is looked up may be
forgotten, or be hidden by something else of the same hash, and costs no more than a guess.

For each length of run there is a table from the run's hash to where the run last ended. The tables
have a fixed size, so that a row takes bounded memory beside its tokens, four bytes each; taking a
token in and looking up are of constant cost, however long the row has become.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

RUNS = (8, 3)
"""Lengths in tokens of what is looked up, the longest first: it tells more."""
MOST_PLACES = 1 << 16
"""Of a table; with more tokens than this the older ones are forgotten here and there."""
NOWHERE = 0
MULTIPLIER = 0x9E3779B97F4A7C15

Tokens = npt.NDArray[np.int32]
Hashes = npt.NDArray[np.uint64]


class Lookup:
    """The tokens of one row, from which its next ones are drafted.

    Args:
        tokens: the row's so far, prompt and answer.
        most_places: of each table, a power of two.
    """

    def __init__(self, tokens: Sequence[int] = (), most_places: int = MOST_PLACES) -> None:
        self._tokens: Tokens = np.zeros(max(64, 2 * len(tokens)), np.int32)
        self._count = 0
        self._mask = most_places - 1
        self._ends = {run: np.full(most_places, NOWHERE, np.int32) for run in RUNS}
        self.extend(tokens)

    def __len__(self) -> int:
        return self._count

    @property
    def nbytes(self) -> int:
        return self._tokens.nbytes + sum(ends.nbytes for ends in self._ends.values())

    def extend(self, tokens: Sequence[int]) -> None:
        """Take in what the row has said next."""
        if not len(tokens):
            return
        before, self._count = self._count, self._count + len(tokens)
        if self._count > len(self._tokens):
            self._tokens = np.concatenate([self._tokens[:before], np.zeros(self._count, np.int32)])
        self._tokens[before : self._count] = tokens
        for run in RUNS:
            # Without runs that end with the newest token: they would find themselves.
            first, last = max(run, before), self._count - 1
            if first <= last:
                ends = np.arange(first, last + 1)
                self._ends[run][self._places(ends, run)] = ends

    def draft(self, most: int) -> list[int]:
        """What may come next, up to so many tokens; empty if the last ones are new.

        What repeats itself up to its own end is taken to go on repeating.
        """
        for run in RUNS:
            end = self._earlier(run)
            if end != NOWHERE:
                period = self._count - end
                places = end + np.arange(most) % period
                return [int(token) for token in self._tokens[places]]
        return []

    def _earlier(self, run: int) -> int:
        """Where the last tokens, so many, ended before; NOWHERE if that is not known."""
        if self._count <= run:
            return NOWHERE
        newest = np.array([self._count])
        end = int(self._ends[run][self._places(newest, run)[0]])
        same = np.array_equal(
            self._tokens[max(0, end - run) : end], self._tokens[self._count - run : self._count]
        )
        return end if same else NOWHERE

    def _places(self, ends: npt.NDArray[np.int64], run: int) -> npt.NDArray[np.int64]:
        """Of the runs of so many tokens before each of these ends, in their table."""
        hashes: Hashes = np.zeros(len(ends), np.uint64)
        for back in range(run, 0, -1):
            hashes = (hashes + self._tokens[ends - back].astype(np.uint64)) * np.uint64(MULTIPLIER)
            hashes ^= hashes >> np.uint64(29)
        return (hashes & np.uint64(self._mask)).astype(np.int64)

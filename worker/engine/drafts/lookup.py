"""Drafts from what was said before: where the last tokens stood earlier, what followed them there.

A draft is a guess and may be anything: whoever takes it checks it. So what is looked up may be
forgotten, or be hidden by something else of the same hash, and costs no more than a guess.

For each length of run there is a table from the run's hash to where the run last ended. The tables
have a fixed size, so that a row takes bounded memory beside its tokens, four bytes each; taking a
token in and looking up are of constant cost, however long the row has become.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

RUNS = (8, 3)
"""Lengths in tokens of what is looked up, the longest first: it tells more."""
MOST_PLACES = 1 << 16
"""Of a table; with more tokens than this the older ones are forgotten here and there."""
LEAST_PLACES = 1 << 10
NOWHERE = 0
BASE, MIXER = 0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9
WORD = (1 << 64) - 1


class Lookup:
    """The tokens of one row, from which its next ones are drafted.

    Args:
        tokens: the row's so far, prompt and answer.
        more: about how many it will have besides.
        most_places: of each table, a power of two.
    """

    def __init__(
        self, tokens: Sequence[int] = (), more: int = 0, most_places: int = MOST_PLACES
    ) -> None:
        self._tokens = array("i", tokens)
        wanted = max(LEAST_PLACES, 2 * (len(tokens) + more))
        places = min(most_places, 1 << (wanted - 1).bit_length())
        self._tables = [_Table(run, places, self._tokens) for run in RUNS]

    def __len__(self) -> int:
        return len(self._tokens)

    @property
    def nbytes(self) -> int:
        return len(self._tokens) * self._tokens.itemsize + sum(t.nbytes for t in self._tables)

    def push(self, token: int) -> None:
        """Take in what the row has said next."""
        self._tokens.append(token)
        for table in self._tables:
            table.push(self._tokens)

    def draft(self, most: int) -> list[int]:
        """What may come next, up to so many tokens; empty if the last ones are new.

        What repeats itself up to its own end is taken to go on repeating.
        """
        for table in self._tables:
            end = table.earlier(self._tokens)
            if end != NOWHERE:
                found = self._tokens[end : end + most].tolist()
                period = len(found)
                return [found[number % period] for number in range(most)]
        return []


class _Table:
    """Where runs of one length ended last.

    The hash of a run is that of the one before it, less the token that has left it and more the
    new one, so that its length does not matter.
    """

    def __init__(self, run: int, places: int, tokens: array[int]) -> None:
        self._run = run
        self._shift = 64 - (places - 1).bit_length()
        self._leaving = pow(BASE, run, 1 << 64)
        self._hash, self._earlier = 0, NOWHERE
        self._ends = array("i", bytes(places * 4))
        self._fill(tokens)

    @property
    def nbytes(self) -> int:
        return len(self._ends) * self._ends.itemsize

    def push(self, tokens: array[int]) -> None:
        """The last of these is new."""
        count = len(tokens)
        kept = self._hash * BASE + tokens[-1]
        if count > self._run:
            kept -= tokens[-1 - self._run] * self._leaving
        self._hash = kept & WORD
        if count >= self._run:
            place = (self._hash * MIXER & WORD) >> self._shift
            self._earlier, self._ends[place] = self._ends[place], count

    def earlier(self, tokens: array[int]) -> int:
        """Where the last tokens ended before; NOWHERE if that is not known."""
        end, run = self._earlier, self._run
        same = end != NOWHERE and tokens[end - run : end] == tokens[-run:]
        return end if same else NOWHERE

    def _fill(self, tokens: array[int]) -> None:
        """As `push` for each of them, all but the last one at once."""
        count, run = len(tokens) - 1, self._run
        if count >= run:
            known: npt.NDArray[np.uint64] = np.array(tokens[:count], np.int64).astype(np.uint64)
            hashes = np.zeros(count - run + 1, np.uint64)
            for number in range(run):
                hashes = hashes * np.uint64(BASE) + known[number : count - run + 1 + number]
            self._hash = int(hashes[-1])
            places = (hashes * np.uint64(MIXER)) >> np.uint64(self._shift)
            ends = np.frombuffer(self._ends, np.int32)
            ends[places.astype(np.int64)] = np.arange(run, count + 1)
        elif count > 0:
            for token in tokens[:count]:
                self._hash = (self._hash * BASE + token) & WORD
        if count >= 0:
            self.push(tokens)

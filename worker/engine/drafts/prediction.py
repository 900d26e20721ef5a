"""Drafts from what the client expects to be answered: OpenAI's `prediction`.

The answer is followed through the expected text, forwards only. Where they part, one token may have
taken the place of another; else the two meet again where the last few tokens of the answer come
next in the text. So what of the text has come in the answer depends on the two alone, and not on
how the answer was computed.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Sequence

RUN = 3
"""Tokens by which the two meet again."""


class Prediction:
    """
    Args:
        tokens: what is expected.
        said: the answer so far.

    Attributes:
        accepted: how many of the expected tokens have come.
    """

    def __init__(self, tokens: Sequence[int], said: Sequence[int] = ()) -> None:
        self._tokens = list(tokens)
        self._next: int | None = 0
        self._passed = 0
        self._newest: tuple[int, ...] = ()
        self._ends: defaultdict[tuple[int, ...], list[int]] | None = None
        self.accepted = 0
        for token in said:
            self.push(token)

    @property
    def rejected(self) -> int:
        """How many of the expected tokens have not come."""
        return len(self._tokens) - self.accepted

    def push(self, token: int) -> None:
        """Take in what is said next."""
        self._newest = (*self._newest, token)[-RUN:]
        place = self._next
        if place is not None and place < len(self._tokens) and self._tokens[place] == token:
            self.accepted += 1
            self._next = self._passed = place + 1
            return
        met = self._meeting()
        if met is not None:
            self._next = self._passed = met
        elif place == self._passed:
            self._next = place + 1
        else:
            self._next = None

    def draft(self, most: int) -> list[int]:
        """What is expected next, up to so many tokens."""
        return [] if self._next is None else self._tokens[self._next : self._next + most]

    def _meeting(self) -> int | None:
        """Where the newest tokens end next in what is left of the text."""
        if self._ends is None:
            self._ends = defaultdict(list)
            for end in range(RUN, len(self._tokens) + 1):
                self._ends[tuple(self._tokens[end - RUN : end])].append(end)
        ends = self._ends.get(self._newest, [])
        place = bisect_left(ends, self._passed + RUN)
        return ends[place] if place < len(ends) else None

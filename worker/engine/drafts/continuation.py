"""Drafts that a smaller model makes: what it takes to come next in a row, and how far it follows.

The model itself is elsewhere (`draft_model/`); here is what it has to know of one row.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Generic, TypeVar

RulesT = TypeVar("RulesT")


class Continuation(Generic[RulesT]):
    """Of one row.

    Args:
        prompt: its tokens before the answer.
        said: those of its answer so far.
        rules: by which the row chooses its tokens.
        vocabulary: how many tokens the draft model knows; it reads over the others.

    Attributes:
        tokens: the row's so far that the draft model knows.
        said: how many tokens its answer has.
        read: how many of `tokens` the draft model's cache holds, and has not drafted itself in
            another way.
    """

    def __init__(
        self,
        prompt: Sequence[int],
        said: Sequence[int],
        rules: RulesT,
        vocabulary: int,
    ) -> None:
        self.rules = rules
        self.said = len(said)
        self.tokens = [token for token in (*prompt, *said) if 0 <= token < vocabulary]
        self.read = 0
        self._vocabulary = vocabulary
        self._drafted: list[int] = []
        self._ahead: list[int] = []

    def push(self, token: int) -> None:
        """Take in what the row has said next."""
        self.said += 1
        self._drafted = self._drafted[1:] if self._drafted[:1] == [token] else []
        if not 0 <= token < self._vocabulary:
            self._ahead = []
            return
        self.tokens.append(token)
        if self._ahead[:1] == [token]:
            self.read += 1
            del self._ahead[0]
        else:
            self._ahead = []

    def draft(self, most: int) -> list[int]:
        """What the model has drafted and the row has yet to say, up to so many tokens."""
        return self._drafted[:most]

    def take(self, drafted: Sequence[int]) -> None:
        """The model has read all of `tokens`, and drafted these; its cache holds all but the last
        of them."""
        self.read = len(self.tokens)
        self._drafted, self._ahead = list(drafted), list(drafted[:-1])

"""What drafts come from."""

from __future__ import annotations

from typing import Protocol


class Drafts(Protocol):
    """Of one row."""

    def push(self, token: int) -> None:
        """Take in what the row has said next."""

    def draft(self, most: int) -> list[int]:
        """What may come next, up to so many tokens; empty if there is nothing to go by."""


class FirstOf:
    """Of several sources the first that has something."""

    def __init__(self, *sources: Drafts) -> None:
        self._sources = sources

    def push(self, token: int) -> None:
        for source in self._sources:
            source.push(token)

    def draft(self, most: int) -> list[int]:
        return next((draft for source in self._sources if (draft := source.draft(most))), [])

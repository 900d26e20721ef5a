"""What drafts come from."""

from __future__ import annotations

from typing import Protocol


class Drafts(Protocol):
    """Of one row."""

    def push(self, token: int) -> None:
        """Take in what the row has said next."""

    def draft(self, most: int) -> list[int]:
        """What may come next, up to so many tokens; empty if there is nothing to go by."""

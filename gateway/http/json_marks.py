"""Counting the values of a JSON text before it is parsed, while it is read piece by piece."""

from __future__ import annotations

MARKS = (b",", b"[", b"{")
"""Each value stands after one of these, or is the only one."""


class MarkCounter:
    """Counts the marks outside strings, in a few passes over each piece in C.

    Of text that is no JSON the count means nothing; parsing such text ends at its first error.
    """

    def __init__(self) -> None:
        self.marks = 0
        self.members = 0
        """Of objects: each has a colon."""
        self.quotes = 0
        """That begin or end a string. A JSON text has at most four for each mark, and four more: a
        member's name and its value."""
        self._escaping = False
        """Whether the last piece ended with the first half of an escape."""

    def add(self, piece: bytes) -> None:
        if not piece:
            return
        if self._escaping:
            piece = piece[1:]
        backslashes = len(piece) - len(piece.rstrip(b"\\"))
        self._escaping = backslashes % 2 == 1
        # Read from the left, pairs first: what is left of backslashes begins other escapes.
        plain = piece.replace(b"\\\\", b"").replace(b'\\"', b"")
        in_string = self.quotes % 2
        parts = plain.split(b'"')
        self.quotes += len(parts) - 1
        outside = b"".join(parts[in_string::2])
        self.marks += sum(map(outside.count, MARKS))
        self.members += outside.count(b":")

"""Finds stop strings in a stream of text, across whatever borders its pieces have."""

from __future__ import annotations

from collections.abc import Sequence


class StopFinder:
    """Passes text on until a stop string appears; holds back only what may be the start of one.

    The match that is complete first wins, and of two that end together the longer. That makes
    the result independent of how the text is cut into pieces.
    """

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = [stop for stop in stops if stop]
        self._held = ""
        self.match: str | None = None
        """The stop string that was found."""

    @property
    def found(self) -> bool:
        return self.match is not None

    def push(self, text: str) -> str:
        """Return the text that is certainly before any stop string. After a match: nothing."""
        if self.found or not self._stops:
            return "" if self.found else text
        self._held += text
        first = self._first_match()
        if first is not None:
            start, end = first
            self.match = self._held[start:end]
            passed, self._held = self._held[:start], ""
            return passed
        keep = self._longest_start()
        passed = self._held[: len(self._held) - keep]
        self._held = self._held[len(passed) :]
        return passed

    def finish(self) -> str:
        """Return what was held back: no stop string came of it."""
        passed, self._held = self._held, ""
        return passed

    def _first_match(self) -> tuple[int, int] | None:
        """Where the match that is complete first starts and ends."""
        places = [(self._held.find(stop), len(stop)) for stop in self._stops]
        matches = [(place + length, place) for place, length in places if place >= 0]
        if not matches:
            return None
        end, start = min(matches)
        return start, end

    def _longest_start(self) -> int:
        return max(held_back(self._held, stop) for stop in self._stops)


def held_back(text: str, marker: str) -> int:
    """The length of the longest end of `text` that is a proper start of `marker`."""
    for length in range(min(len(text), len(marker) - 1), 0, -1):
        if text.endswith(marker[:length]):
            return length
    return 0

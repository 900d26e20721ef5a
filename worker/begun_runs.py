"""Which runs an engine process has begun and not ended, in memory that outlives it.

Its supervisor reads this when the process has died, to tell who may be to blame. Each request makes
two notes, so a note is a few bytes in a mapped file: no system call, and nobody is woken by it.
"""

from __future__ import annotations

import mmap
import os
import tempfile

from shared.messages import MAX_DIED_WITH

VARIABLE = "WORKER_BEGUN_RUNS"
"""The file's descriptor, in an engine process' environment."""

MAX_RUN_ID_CHARACTERS = 40
"""Ours have 35."""

PLACES = MAX_DIED_WITH
"""What is told of more runs is that nobody knows, so they need no names."""
_PLACE_BYTES = 1 + 4 * MAX_RUN_ID_CHARACTERS
"""A name's length, 0 where there is none, and the name in UTF-8."""
_BEGUN, _ENDED = 0, 1
_COUNTS_BYTES = 16
_FILE_BYTES = _COUNTS_BYTES + PLACES * _PLACE_BYTES


def make_file() -> int:
    """Return the descriptor of a new file of this kind, which nobody else can open.

    Raises:
        OSError: there is no room for it.
    """
    with tempfile.TemporaryFile() as file:
        # Written and not only made longer: a mapped page for which the disk has no room kills.
        file.write(bytes(_FILE_BYTES))
        file.flush()
        return os.dup(file.fileno())


class BegunRuns:
    """One side's view of the file: the engine thread of the process writes, its supervisor reads.

    The process may be killed at any point. A name counts once its length is there, and each count
    is one store.
    """

    def __init__(self, descriptor: int) -> None:
        self._file = mmap.mmap(descriptor, _FILE_BYTES)
        self._counts = memoryview(self._file)[:_COUNTS_BYTES].cast("Q")
        self._free = list(range(_COUNTS_BYTES, _FILE_BYTES, _PLACE_BYTES))
        self._places: dict[str, int | None] = {}

    def close(self) -> None:
        self._counts.release()
        self._file.close()

    # --- the engine's side -------------------------------------------------------------------

    def begun(self, run_id: str) -> None:
        """The engine is about to take this run. To be noted before it can do any harm."""
        if len(run_id) > MAX_RUN_ID_CHARACTERS:
            return
        place = self._places[run_id] = self._free.pop() if self._free else None
        if place is not None:
            name = run_id.encode()
            self._file[place + 1 : place + 1 + len(name)] = name
            self._file[place] = len(name)
        self._counts[_BEGUN] += 1

    def ended(self, run_id: str) -> None:
        """The engine has it no more. Of what was not begun it means nothing."""
        if run_id not in self._places:
            return
        self._counts[_ENDED] += 1
        place = self._places.pop(run_id)
        if place is not None:
            self._file[place] = 0
            self._free.append(place)

    # --- the supervisor's side ---------------------------------------------------------------

    @property
    def count(self) -> int:
        """How many runs have been begun."""
        return self._counts[_BEGUN]

    @property
    def under_way(self) -> int:
        """How many of them have not ended."""
        return self._counts[_BEGUN] - self._counts[_ENDED]

    def names(self) -> list[str] | None:
        """The runs under way; None when there are more than have their names here."""
        names = []
        for place in range(_COUNTS_BYTES, _FILE_BYTES, _PLACE_BYTES):
            if length := self._file[place]:
                names.append(self._file[place + 1 : place + 1 + length].decode())
        return names if len(names) >= self.under_way else None

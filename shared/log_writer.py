"""Writes log lines on a thread of its own, so that whoever logs never waits for who reads.

A pipe that nobody empties, a stopped terminal or a full disk would otherwise stop the caller, and
with an event loop every connection. Lines wait in a bounded queue; what finds no room is counted.
"""

from __future__ import annotations

import logging
import os
import select
import stat
import threading
import time
from collections import deque
from collections.abc import Iterator

MAX_WAITING_BYTES = 4 * 1024 * 1024
GATHER_S = 0.05
"""How long the thread rests between two writes. Woken for each line, it and its caller took the
interpreter from each other at every request: a fifth fewer were answered."""
FLUSH_S = 1.0
"""How long an ending process waits for its last lines to be read."""


class LogWriter(logging.Handler):
    """Hands formatted lines to a thread that writes them.

    Args:
        descriptor: where lines go; None: nowhere, and they count as lost.
        max_waiting_bytes: of lines that are not yet being written.
    """

    def __init__(self, descriptor: int | None, max_waiting_bytes: int = MAX_WAITING_BYTES) -> None:
        super().__init__()
        self.lost = 0
        """Lines that found no room or could not be written, since the start."""
        self._descriptor = descriptor
        self._max_waiting_bytes = max_waiting_bytes
        self._piece_bytes = _atomic_bytes(descriptor, max_waiting_bytes)
        self._lines: deque[bytes] = deque()
        self.waiting_bytes = 0
        self._writing = False
        self._told = 0
        self._changed = threading.Condition()
        threading.Thread(target=self._write_for_ever, name="log writer", daemon=True).start()

    def emit(self, record: logging.LogRecord) -> None:
        try:
            line = self._line(record)
        except Exception:
            # A boundary: what cannot be shown is no reason to fail for whoever logs it; and
            # logging's own way, a traceback on stderr, could wait.
            line = None
        with self._changed:
            if line is None or self.waiting_bytes + len(line) > self._max_waiting_bytes:
                self.lost += 1
                return
            if not self._lines:
                self._changed.notify_all()
            self._lines.append(line)
            self.waiting_bytes += len(line)

    def flush(self) -> None:
        """Wait until all lines are written, for `FLUSH_S` at most; `logging.shutdown`, which runs
        at the interpreter's exit, calls this."""
        with self._changed:
            self._changed.wait_for(lambda: not self._lines and not self._writing, FLUSH_S)

    def _line(self, record: logging.LogRecord) -> bytes:
        return self.format(record).encode(errors="backslashreplace") + b"\n"

    def _write_for_ever(self) -> None:
        while True:
            with self._changed:
                self._writing = False
                self._changed.notify_all()  # whoever flushes
                self._changed.wait_for(lambda: self._lines)
                self._writing = True
                lines = list(self._lines)
                self._lines.clear()
                self.waiting_bytes = 0
            for piece, count in _pieces(lines, self._piece_bytes):
                self._write(piece, count)
            self._tell_lost()
            time.sleep(GATHER_S)

    def _write(self, piece: bytes, lines: int) -> None:
        try:
            while piece:
                if self._descriptor is None:
                    raise OSError
                piece = piece[_write_some(self._descriptor, piece) :]
        except OSError:  # nobody reads any more, or the disk is full
            with self._changed:
                self.lost += lines

    def _tell_lost(self) -> None:
        lost = self.lost
        if lost == self._told:
            return
        words, count = "%d log lines were lost: nobody read them in time", lost - self._told
        record = logging.LogRecord(__name__, logging.WARNING, "", 0, words, (count,), None)
        self._told = lost
        self._write(self._line(record), 0)


def _atomic_bytes(descriptor: int | None, most: int) -> int:
    """How much is written at once: the lines of several processes on one pipe must not mix. Each
    write lets go of the interpreter's lock and takes it again from whoever works meanwhile."""
    is_pipe = descriptor is not None and stat.S_ISFIFO(os.fstat(descriptor).st_mode)
    return select.PIPE_BUF if is_pipe else most


def _pieces(lines: list[bytes], most_bytes: int) -> Iterator[tuple[bytes, int]]:
    """Yield the lines, joined up to that size, and how many they are."""
    piece: list[bytes] = []
    size = 0
    for line in lines:
        if piece and size + len(line) > most_bytes:
            yield b"".join(piece), len(piece)
            piece, size = [], 0
        piece.append(line)
        size += len(line)
    yield b"".join(piece), len(piece)


def _write_some(descriptor: int, piece: bytes) -> int:
    """Return how many bytes were written, after waiting for room as long as it takes."""
    while True:
        try:
            return os.write(descriptor, piece)
        except BlockingIOError:  # another process has made the shared end non-blocking
            select.select([], [descriptor], [])

"""What the engine thread hands to the link thread: a queue, and a pipe that wakes its poll."""

from __future__ import annotations

import os
import queue
from collections.abc import Iterator

from worker.loop import Output

READ_BYTES = 16


class EngineOutputs:
    """`publish` is called on the engine thread, all else on the link thread."""

    def __init__(self) -> None:
        self._outputs: queue.SimpleQueue[list[Output]] = queue.SimpleQueue()
        self.wake_read, self._wake_write = os.pipe()
        """`wake_read` can be read when there are outputs to take."""
        os.set_blocking(self._wake_write, False)
        os.set_blocking(self.wake_read, False)
        self._woken = False
        """Whether the link has been woken, and has not begun to take yet."""

    def publish(self, output: list[Output]) -> None:
        """Hand over what a step brought."""
        self._outputs.put(output)
        if not self._woken:
            self._woken = True
            os.write(self._wake_write, b"\0")

    def take(self) -> Iterator[Output]:
        """All that has been published so far, in order."""
        try:
            os.read(self.wake_read, READ_BYTES)
        except BlockingIOError:
            pass
        # After the read: who is not woken because of this has put its output there already.
        self._woken = False
        while not self._outputs.empty():
            yield from self._outputs.get()

"""What the engine thread hands to the link thread: a queue, and a pipe that wakes its poll."""

from __future__ import annotations

import os
import queue
from collections.abc import Iterator

from worker.loop import Output

READ_BYTES = 4096


class EngineOutputs:
    """`publish` is called on the engine thread, all else on the link thread."""

    def __init__(self) -> None:
        self._outputs: queue.SimpleQueue[list[Output]] = queue.SimpleQueue()
        self.wake_read, self._wake_write = os.pipe()
        """`wake_read` can be read when there are outputs to take."""
        os.set_blocking(self._wake_write, False)
        os.set_blocking(self.wake_read, False)

    def publish(self, output: list[Output]) -> None:
        """Hand over what a step brought."""
        self._outputs.put(output)
        try:
            os.write(self._wake_write, b"\0")
        except BlockingIOError:
            pass

    def take(self) -> Iterator[Output]:
        """All that has been published so far, in order."""
        try:
            while os.read(self.wake_read, READ_BYTES):
                pass
        except BlockingIOError:
            pass
        while not self._outputs.empty():
            yield from self._outputs.get()

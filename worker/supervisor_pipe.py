"""What an engine process tells its supervisor: JSON lines through a pipe, and how it ended; and the
signals that it is told by."""

from __future__ import annotations

import json
import os
import signal
import time

PIPE_VARIABLE = "WORKER_SUPERVISOR_PIPE"

REPORT_EVERY_S = 0.1

LEAVE_SOON = signal.SIGTERM
"""What runs has `--drain-timeout`."""
LEAVE_WHEN_IDLE = signal.SIGUSR1
"""What runs comes to its end. Kills an engine process that has just been started."""

EXIT_LEFT = 0
EXIT_CRASHED = 1
EXIT_HOPELESS = 2
EXIT_RECYCLE = 75


class SupervisorPipe:
    """Writes one JSON line at a time; a supervisor that is gone ends this process too."""

    def __init__(self, descriptor: int | None) -> None:
        self._descriptor = descriptor
        self._reported_at = -REPORT_EVERY_S

    def due(self) -> bool:
        """Whether it is time for another report. The link could tell one with every token, and
        each wakes the supervisor."""
        now = time.monotonic()
        if now - self._reported_at < REPORT_EVERY_S:
            return False
        self._reported_at = now
        return True

    def trying(self, what: str) -> None:
        """What is tried next with a model that is made ready. Told before it can do any harm: what
        is in the pipe outlives this process."""
        self.tell(trying=what)

    def tell(self, **fields: object) -> None:
        if self._descriptor is None:
            return
        try:
            os.write(self._descriptor, json.dumps(fields).encode() + b"\n")
        except BlockingIOError:
            pass
        except BrokenPipeError:
            os._exit(EXIT_CRASHED)

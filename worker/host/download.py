"""A download as a process of its own: `python -m worker.host.download HUB-ID`.

It tells how far it is in JSON lines on its standard output. Files that an earlier one has fetched
whole are here already. The hub's library has threads that nobody can end, and a host waits for
nothing.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from shared import logs
from worker.engine.interface import ModelError, ModelUnavailable
from worker.settings import Settings

log = logging.getLogger(__name__)

TELL_EVERY_S = 0.2
LOG_EVERY = 0.1
"""Share of the whole between two lines in the log."""
READ_BYTES = 65536


class Download:
    """One such process, seen from its host.

    Attributes:
        fraction: of the bytes of all files.
        done_bytes: of all files, that are here, ...
        total_bytes: ... of so many; 0: not known yet.
        folder: where the model lies, once all of it is here.
        error: why it has failed, once it has ended; empty: it has not.
        hopeless: whether it would fail again, for all that the hub says.
    """

    def __init__(self, model: str, settings: Settings) -> None:
        self.fraction = 0.0
        self.done_bytes = self.total_bytes = 0
        self.hopeless = False
        self.folder: Path | None = None
        self.error = ""
        self._model = model
        trusted = ["--trust-remote-code"] if settings.trust_remote_code else []
        logged = ["--log-level", settings.log_level, "--log-format", settings.log_format]
        self._process = subprocess.Popen(
            [sys.executable, "-m", "worker.host.download", model, *trusted, *logged],
            stdout=subprocess.PIPE,
            stdin=subprocess.DEVNULL,
        )
        assert self._process.stdout is not None
        self._told = self._process.stdout.fileno()
        self._rest = b""
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._told, selectors.EVENT_READ)

    def look(self) -> bool:
        """Hear it, without waiting. Returns whether it still runs."""
        while self._selector.select(0):
            data = os.read(self._told, READ_BYTES)
            if not data:
                self._ended()
                return False
            *lines, self._rest = (self._rest + data).split(b"\n")
            for line in lines:
                self._take_in(line)
        return True

    def stop(self) -> None:
        """End it; files that have come whole stay for the next one."""
        self._process.kill()
        self._close()

    def _take_in(self, line: bytes) -> None:
        told = json.loads(line)
        if "done" in told:
            self.done_bytes, self.total_bytes = told["done"], told["total"]
            self.fraction = min(1.0, self.done_bytes / max(1, self.total_bytes))
        self.hopeless = told.get("hopeless", False)
        self.error = told.get("error", self.error)
        self.folder = Path(told["folder"]) if "folder" in told else self.folder

    def _ended(self) -> None:
        code = self._close()
        if self.folder is None and not self.error:
            ending = f"signal {-code}" if code < 0 else f"code {code}"
            self.error = f"The download of {self._model} was ended ({ending})."

    def _close(self) -> int:
        self._selector.close()
        assert self._process.stdout is not None
        self._process.stdout.close()
        return self._process.wait()


class Teller:
    """Of the process' own side: passes on how far it is, now and then."""

    def __init__(self, model: str) -> None:
        self._model = model
        # What a library prints is not for the host.
        self._told = os.dup(sys.stdout.fileno())
        os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
        self._told_at = float("-inf")
        self._logged = 0.0

    def progress(self, done: int, total: int) -> None:
        now = time.monotonic()
        if done < total and now - self._told_at < TELL_EVERY_S:
            return
        self._told_at = now
        self.say(done=done, total=total)
        fraction = done / total
        if fraction >= self._logged + LOG_EVERY or done >= total > self._logged * total:
            self._logged = fraction
            log.info(
                "model %s: %.0f%% of %.1f MB downloaded", self._model, 100 * fraction, total / 1e6
            )

    def say(self, **told: object) -> None:
        try:
            os.write(self._told, json.dumps(told).encode() + b"\n")
        except BrokenPipeError:  # the host is gone
            os._exit(1)


def main(argv: Sequence[str] | None = None) -> int:
    from worker.engine.model.download import resolve_folder  # the hub's library takes its time

    parser = argparse.ArgumentParser(prog="python -m worker.host.download")
    parser.add_argument("model")
    parser.add_argument("--trust-remote-code", action="store_true")
    parser.add_argument("--log-level", default="info")
    parser.add_argument("--log-format", default="auto")
    given = parser.parse_args(argv)
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    logs.configure(given.log_level, given.log_format, "download")
    logging.getLogger("httpx2").setLevel(logging.WARNING)  # it tells every request
    teller = Teller(given.model)
    try:
        trusted = given.trust_remote_code
        folder = resolve_folder(given.model, teller.progress, trust_remote_code=trusted)
    except (ModelError, ModelUnavailable) as error:
        teller.say(error=str(error), hopeless=isinstance(error, ModelError))
        return 1
    teller.say(folder=str(folder))
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""An engine process seen from its host: started, heard, found to be stuck, told to leave.

Metal aborts the process when memory runs out and no Python code can catch that; honcho ends
everything when one of its processes exits. So the process that honcho sees is the host, which
holds no model and does not exit until it is told to or until starting again is hopeless.
"""

from __future__ import annotations

import json
import logging
import os
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any

from worker import begun_runs
from worker.awake_clock import AwakeClock
from worker.begun_runs import BegunRuns
from worker.link.announcements import INSTANCE_VARIABLE, SUPERVISOR_VARIABLE
from worker.lost_runs import LostRuns
from worker.supervisor_pipe import (
    EXIT_HOPELESS,
    EXIT_RECYCLE,
    LEAVE_SOON,
    LEAVE_WHEN_IDLE,
    PIPE_VARIABLE,
)

log = logging.getLogger(__name__)

LOADING_SILENCE_S = 60.0
"""While it loads, importing a library may hold the interpreter for long."""
OWN_FAULTS = frozenset(
    {signal.SIGABRT, signal.SIGBUS, signal.SIGFPE, signal.SIGILL, signal.SIGSEGV, signal.SIGTRAP}
)
"""Signals that a process brings upon itself."""


class EngineProcess:
    """One start of the engine process, seen from outside.

    Args:
        supervisor: the host's instance, where the model is one of several.
        told: variables of its environment, beside its supervisor's own.

    Raises:
        OSError: of processes, descriptors or memory there are too few at the moment.
    """

    def __init__(
        self,
        argv: Sequence[str],
        name: str,
        instance: str,
        lost_runs: LostRuns,
        supervisor: str = "",
        told: Mapping[str, str] | None = None,
    ) -> None:
        read_end, write_end = os.pipe()
        os.set_blocking(write_end, False)
        runs_file = _runs_file()
        environment = {
            **os.environ,
            **lost_runs.environment(),
            **(told or {}),
            INSTANCE_VARIABLE: instance,
            SUPERVISOR_VARIABLE: supervisor,
            PIPE_VARIABLE: str(write_end),
        }
        shared = [write_end]
        if runs_file is not None:
            environment[begun_runs.VARIABLE] = str(runs_file)
            shared.append(runs_file)
        try:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "worker.engine_process", *argv, "--name", name],
                pass_fds=shared,
                env=environment,
            )
        except OSError:
            os.close(read_end)
            raise
        else:
            self._runs = None if runs_file is None else BegunRuns(runs_file)
        finally:
            for descriptor in shared:
                os.close(descriptor)
        self.started_at = time.monotonic()
        self._clock = AwakeClock()
        self._heard_at = self._clock.look()
        self.report: dict[str, Any] = {"state": "loading"}
        self.was_ready = False
        self.died_with: list[str] | None = None
        """The runs under way when it had ended, once it is closed; None: nobody knows."""
        self.trying = ""
        """What it does to make its model ready."""
        self._pipe = read_end
        self._rest = b""
        self._selector = selectors.DefaultSelector()
        self._selector.register(read_end, selectors.EVENT_READ)

    @property
    def pipe(self) -> int:
        """A descriptor that can be read when there is something to hear."""
        return self._pipe

    @property
    def runs_begun(self) -> int:
        """How many runs it has begun; 0 where no note could be kept of them."""
        return 0 if self._runs is None else self._runs.count

    @property
    def busy(self) -> bool:
        """Whether it has jobs, or begins one at this moment."""
        under_way = 0 if self._runs is None else self._runs.under_way
        return bool(self.report.get("active") or under_way)

    def listen(self) -> bool:
        """Read what it has reported, without waiting; False once it has closed its end."""
        return self._read() if self._selector.select(0) else True

    def _read(self) -> bool:
        data = os.read(self._pipe, 65536)
        if not data:
            return False
        self._heard_at = self._clock.look()
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            self._take_in(json.loads(line))
        return True

    def _take_in(self, told: dict[str, Any]) -> None:
        if "trying" in told:
            self.trying = told["trying"]
        else:
            self.report = told
            self.was_ready |= told.get("state") == "ready"

    def stuck(self, stall_timeout_s: float) -> str | None:
        """Why it has to be killed, or None."""
        silence_s = self._clock.look() - self._heard_at
        loading = self.report.get("state") == "loading"
        if silence_s > (max(LOADING_SILENCE_S, stall_timeout_s) if loading else stall_timeout_s):
            return f"it has been silent for {silence_s:.1f} s"
        age_s = self.report.get("step_age_s", 0.0)
        if not loading and self.report.get("active") and age_s > stall_timeout_s:
            return f"jobs are active and it has made no step for {age_s:.1f} s"
        return None

    def hopeless(self, code: int, *, served: bool) -> str | None:
        """Why it will come to this end every time, or None.

        Args:
            code: how it ended.
            served: whether the model was ever ready. It may lack memory now, and find it later; one
                that never was, and brings its process down, will do so every time.
        """
        if code == EXIT_HOPELESS:
            return str(self.report.get("hopeless", "the engine cannot start"))
        if -code not in OWN_FAULTS or not self.trying or served:
            return None
        name = signal.Signals(-code).name
        return f"This model is not served: its process died ({name}) while {self.trying}."

    def tell_to_leave(self, *, when_idle: bool = False) -> None:
        """The engine takes no more jobs and leaves; more than one such signal is as good as one.

        Args:
            when_idle: not before the last of its jobs has ended, else within `--drain-timeout`.
        """
        if self.process.poll() is None:
            # It may have become ready, and taken jobs, without our having heard of it yet.
            self.process.send_signal(LEAVE_WHEN_IDLE if when_idle else LEAVE_SOON)

    def close(self) -> int:
        """Await its end, and read what it still had to say. Returns its exit code."""
        code = self.process.wait()
        while self._selector.select(0) and self._read():
            pass
        self._selector.close()
        os.close(self._pipe)
        if self._runs is not None:
            self.died_with = self._runs.names()
            self._runs.close()
        return code


def _runs_file() -> int | None:
    """Without it the worker serves all the same; if its engine dies, nobody knows with what."""
    try:
        return begun_runs.make_file()
    except OSError as error:
        log.warning(
            "no file for the runs that the engine begins can be made; if it dies, gateways may "
            "blame any job that it had",
            extra={"fields": {"error": str(error)}},
        )
        return None


def how_it_ended(code: int) -> str:
    """The exit code of a process, in words."""
    if code == EXIT_RECYCLE:
        return "for a fresh one"
    return f"signal {-code}" if code < 0 else f"code {code}"

"""Keeps an engine process running: starts it, watches its progress, kills and restarts it.

Metal aborts the process when memory runs out and no Python code can catch that; honcho ends
everything when one of its processes exits. So the process that honcho sees is this one, which
holds no model and does not exit until it is told to or until starting again is hopeless.
"""

from __future__ import annotations

import json
import logging
import os
import secrets
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import FrameType
from typing import Any

from shared.launcher import Launcher
from worker import begun_runs
from worker.awake_clock import AwakeClock
from worker.begun_runs import BegunRuns
from worker.link.announcements import INSTANCE_VARIABLE, SUPERVISOR_VARIABLE
from worker.lost_runs import LostRuns
from worker.settings import Settings
from worker.supervisor_pipe import (
    EXIT_HOPELESS,
    EXIT_LEFT,
    EXIT_RECYCLE,
    LEAVE_SOON,
    LEAVE_WHEN_IDLE,
    PIPE_VARIABLE,
)

log = logging.getLogger(__name__)

LOOK_EVERY_S = 0.2
LOADING_SILENCE_S = 60.0
"""While it loads, importing a library may hold the interpreter for long."""
STEADY_AFTER_S = 60.0
FIRST_BACKOFF_S = 0.25
MAX_BACKOFF_S = 30.0
MAX_READY_BACKOFF_S = 1.0
OWN_FAULTS = frozenset(
    {signal.SIGABRT, signal.SIGBUS, signal.SIGFPE, signal.SIGILL, signal.SIGSEGV, signal.SIGTRAP}
)
"""Signals that a process brings upon itself."""


@dataclass
class Backoff:
    """No wait before the first restart, then twice as long each time until it runs steadily.

    An engine that had become ready has shown that it can work, so its wait stays short: whoever
    waits for it (gateways keep its slots on lease) waits in vain otherwise.
    """

    failures: int = 0

    def after_run(self, lasted_s: float, *, was_ready: bool) -> float:
        """Return how long to wait before the next start, in seconds."""
        self.failures = 0 if lasted_s > STEADY_AFTER_S else self.failures
        self.failures += 1
        if self.failures == 1:
            return 0.0
        limit_s = MAX_READY_BACKOFF_S if was_ready else MAX_BACKOFF_S
        return min(limit_s, FIRST_BACKOFF_S * 2.0 ** (self.failures - 2))


class EngineProcess:
    """One start of the engine process, seen from outside.

    Args:
        told: variables of its environment, beside its supervisor's own.
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
        runs_file = begun_runs.make_file()
        environment = {
            **os.environ,
            **lost_runs.environment(),
            **(told or {}),
            INSTANCE_VARIABLE: instance,
            SUPERVISOR_VARIABLE: supervisor,
            PIPE_VARIABLE: str(write_end),
            begun_runs.VARIABLE: str(runs_file),
        }
        self.process = subprocess.Popen(
            [sys.executable, "-m", "worker.engine_process", *argv, "--name", name],
            pass_fds=[write_end, runs_file],
            env=environment,
        )
        self.runs = BegunRuns(runs_file)
        os.close(write_end)
        os.close(runs_file)
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

    def listen(self, wait_s: float = LOOK_EVERY_S) -> bool:
        """Read reports for a moment; False once the process has closed its end."""
        # A wait that a stop has interrupted ends without having looked.
        if not (self._selector.select(wait_s) or self._selector.select(0)):
            return True
        return self._read()

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
        self.died_with = self.runs.names()
        self.runs.close()
        return code


class Supervisor:
    def __init__(self, settings: Settings, argv: Sequence[str], name: str) -> None:
        self.settings = settings
        self.argv = argv
        self.name = name
        self.instance = secrets.token_hex(8)
        self._lost_runs = LostRuns()
        self._launcher = Launcher()
        self._stopping = False
        self._was_ready = False
        self._engine: EngineProcess | None = None

    def run(self) -> int:
        """Return the exit code: 0 when told to stop, 2 when it is hopeless."""
        signal.signal(signal.SIGTERM, self._on_signal)
        signal.signal(signal.SIGINT, self._on_signal)
        backoff = Backoff()
        while not self._stopping:
            engine = self._engine = EngineProcess(
                self.argv, self.name, self.instance, self._lost_runs
            )
            if self._stopping:  # told so while there was no engine yet to pass it on to
                engine.tell_to_leave()
            code = self._watch(engine)
            if self._stopping or code == EXIT_LEFT:
                break
            reason = self._hopeless(engine, code)
            if reason is not None:
                log.error("%s", reason)
                return EXIT_HOPELESS
            if code != EXIT_RECYCLE:
                self._lost_runs.died(engine.died_with)
            self._wait_before_restart(backoff, engine, code)
        return 0

    def _hopeless(self, engine: EngineProcess, code: int) -> str | None:
        """Why starting again cannot help, or None.

        A model that once was served may lack the memory now that it needs to be loaded again, and
        find it later. One that never was, and brings its process down, will do so every time.
        """
        if code == EXIT_HOPELESS:
            return str(engine.report.get("hopeless", "the engine cannot start"))
        self._was_ready |= engine.was_ready
        if -code not in OWN_FAULTS or not engine.trying or self._was_ready:
            return None
        name = signal.Signals(-code).name
        return f"This model is not served: its process died ({name}) while {engine.trying}."

    def _watch(self, engine: EngineProcess) -> int:
        while engine.listen():
            if self._launcher.is_gone and not self._stopping:
                log.warning("worker %s: what started it has ended, so it leaves", self.name)
                self._stop()
            reason = engine.stuck(self.settings.stall_timeout)
            if reason is not None:
                log.error("worker %s: the engine is killed: %s", self.name, reason)
                engine.process.kill()
                break
        return engine.close()

    def _wait_before_restart(self, backoff: Backoff, engine: EngineProcess, code: int) -> None:
        lasted_s = time.monotonic() - engine.started_at
        wait_s = backoff.after_run(lasted_s, was_ready=engine.was_ready)
        log.log(
            logging.INFO if code == EXIT_RECYCLE else logging.WARNING,
            "worker %s: the engine ended (%s); starting it again in %.1f s",
            self.name,
            _how_it_ended(code),
            wait_s,
        )
        until = time.monotonic() + wait_s
        while not self._stopping and time.monotonic() < until:
            time.sleep(min(LOOK_EVERY_S, wait_s))

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self._stop()

    def _stop(self) -> None:
        self._stopping = True
        if self._engine is not None:
            self._engine.tell_to_leave()


def _how_it_ended(code: int) -> str:
    if code == EXIT_RECYCLE:
        return "for a fresh one"
    return f"signal {-code}" if code < 0 else f"code {code}"

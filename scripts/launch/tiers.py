"""The tiers as honcho runs them: started, told to stop, and stopped for certain.

Once it is told to stop, honcho asks for the process id of each tier, and loses its way when one has
not reported it yet: it then waits for ever for tiers that nobody has told to stop. So a signal goes
from here to the tiers themselves, and honcho ends when they have. What has not ended in time is
killed.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import FrameType

import psutil

HONCHO = (sys.executable, "-m", "scripts.launch.leashed_honcho")

LOOK_EVERY_S = 0.1
TELL_EVERY_S = 1.0
"""Tiers are told more than once: in the moment of its birth a process loses what it is told."""
CHILDLESS_S = 2.0
"""A honcho without tiers ends within this time or never."""
KILLED_S = 2.0
SPARE_S = 10.0
"""Beyond the time that the tiers give what runs. honcho itself kills those that are still there 5 s
after the first has ended."""


class Tiers:
    """One gateway, so many workers, and the honcho that holds them."""

    def __init__(self, finish_s: float) -> None:
        """
        Args:
            finish_s: how long the tiers let what runs come to its end, once they are told to stop.
        """
        self._finish_timeout_s = finish_s + SPARE_S
        self._told_by: int | None = None
        self._at_once = False

    def run(
        self,
        workers: int,
        procfile: Path,
        folder: Path,
        environment: Mapping[str, str],
        is_ready: Callable[[], bool],
    ) -> int:
        """Run the tiers until they end or this process is told to stop; return the exit code.

        Args:
            folder: what the tiers run in.
            is_ready: asked again and again, until it says yes.
        """
        self._listen()
        leash, held = os.pipe()
        command = [*HONCHO, str(leash), "start", "--env", os.devnull]
        honcho = subprocess.Popen(
            [*command, "-f", str(procfile), "-c", f"gateway=1,worker={workers}"],
            cwd=folder,
            env=environment,
            pass_fds=[leash],
            start_new_session=True,
        )
        os.close(leash)
        tiers: list[int] = []
        try:
            while honcho.poll() is None and self._told_by is None:
                if not tiers and is_ready():
                    tiers = _tiers_of(honcho)
                time.sleep(LOOK_EVERY_S)
            if self._told_by is not None:
                self._finish(honcho)
        finally:
            _kill(honcho, tiers)
            os.close(held)
        if self._told_by is not None:
            return 128 + self._told_by
        return exit_code(honcho.wait())

    def _listen(self) -> None:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:  # nohup
                signal.signal(number, self._on_signal)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if self._told_by is None:
            self._told_by = number
        elif number == signal.SIGINT:
            self._at_once = True

    def _finish(self, honcho: subprocess.Popen[bytes]) -> None:
        """Let what runs come to its end, for as long as was promised."""
        if self._told_by == signal.SIGINT:
            say("Finishing what runs; Ctrl-C again stops at once.")
        now = time.monotonic()
        until, seen_at = now + self._finish_timeout_s, now
        tell_at: dict[int, float] = {}
        while honcho.poll() is None and now < until and not self._at_once:
            tiers = _tiers_of(honcho)
            due = [tier for tier in tiers if now >= tell_at.get(tier, now)]
            _signal_all(due, signal.SIGTERM)
            tell_at.update(dict.fromkeys(due, now + TELL_EVERY_S))
            seen_at = now if tiers else seen_at
            if now > seen_at + CHILDLESS_S:
                return
            time.sleep(LOOK_EVERY_S)
            now = time.monotonic()


def say(line: str) -> None:
    """Tell the user; a terminal that was closed is no reason to leave the tiers alone."""
    with contextlib.suppress(OSError):
        print(line, flush=True)


def exit_code(code: int) -> int:
    """Return what a shell would say: 128 + n after signal n.

    It may be honcho's own end (-n), or that of a tier, which honcho hands on as 256 - n.
    """
    if code < 0:
        return 128 - code
    return 128 + 256 - code if code > 256 - 64 else code


def children(pid: int) -> list[int]:
    """Return the processes whose parent this one is; none when it is gone."""
    with contextlib.suppress(psutil.NoSuchProcess):
        return [child.pid for child in psutil.Process(pid).children()]
    return []


def _tiers_of(honcho: subprocess.Popen[bytes]) -> list[int]:
    """honcho holds each tier through a process of its own."""
    return [tier for holder in children(honcho.pid) for tier in children(holder)]


def _signal_all(tiers: list[int], number: int) -> None:
    """Each tier has a group of its own, with the processes that it has started."""
    for tier in tiers:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(tier, number)


def _kill(honcho: subprocess.Popen[bytes], tiers: list[int]) -> None:
    """End what is still there. A honcho that was killed has left its tiers behind."""
    if honcho.poll() is None:
        _signal_all(_tiers_of(honcho), signal.SIGKILL)
        with contextlib.suppress(subprocess.TimeoutExpired):
            honcho.wait(KILLED_S)
    if honcho.poll() is None:
        for holder in children(honcho.pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(holder, signal.SIGKILL)
        honcho.kill()
    if honcho.wait() < 0:
        _signal_all(tiers, signal.SIGKILL)

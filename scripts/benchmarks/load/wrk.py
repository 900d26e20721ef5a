"""A closed loop of short answers: so many connections, each asking again as soon as it is answered.

wrk does it, because a client in Python would take the CPU of the server it measures; without wrk
the client in Python does, and says so.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
import time
from functools import cache
from pathlib import Path

from scripts.benchmarks.load import loops
from scripts.benchmarks.load.loops import Outcome
from scripts.benchmarks.load.target import Target

SCRIPT = Path(__file__).with_name("post.lua")
TIMEOUT_S = 60

NO_WRK = """\
wrk is not installed (apt-get install wrk, brew install wrk): the load comes from Python, which
takes CPU from what it measures. Ratios still tell something; absolute figures are too low."""


@cache
def wrk() -> str | None:
    """The path of wrk, or None, said once."""
    found = shutil.which("wrk")
    if found is None:
        print(NO_WRK, file=sys.stderr)
    return found


def run(target: Target, connections: int, seconds: float) -> Outcome:
    program = wrk()
    if program is None:
        return loops.run(loops.closed_loop(target, connections, seconds, after_error_s=0.0))
    with tempfile.NamedTemporaryFile("w", suffix=".json") as body:
        body.write(target.body)
        body.flush()
        # One thread: with more, wrk would take the cores that the servers need.
        command = [program, "-t1", f"-c{connections}", f"-d{max(1, round(seconds))}s"]
        command += [f"--timeout={TIMEOUT_S}s", "-s", str(SCRIPT), target.url]
        command += ["--", body.name, str(time.time_ns() % 2**31)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    return read_output(done.stdout + done.stderr)


def read_output(text: str) -> Outcome:
    """Return what wrk's script has printed.

    Raises:
        RuntimeError: it has printed nothing of the kind; the text says why.
    """
    _, mark, figures = text.rpartition("JSON ")
    if not mark:
        raise RuntimeError(f"wrk has failed:\n{text}")
    read = json.loads(figures.partition("\n")[0])
    # wrk counts answers with an error status as requests, too.
    answered = read["requests"] - min(read["errors"], read["requests"])
    seconds = read["duration_us"] / 1e6
    return Outcome(
        seconds=seconds,
        answered=answered,
        per_second=answered / seconds if seconds else 0.0,
        errors=read["errors"],
        p50_s=read["p50_us"] / 1e6,
        p99_s=read["p99_us"] / 1e6,
    )

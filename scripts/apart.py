"""Parts of a command, each in a process of its own: whatever becomes of one, the others go on."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from typing import Any

MARK = "found: "
"""Before the line with what was found: mlx-vlm's processors write lines of theirs."""
NOTHING: Mapping[str, str] = {}


class BrokenPart(Exception):
    """A part found nothing; the message says why."""


def run_apart(
    module: str, part: str, limit_s: float, environment: Mapping[str, str] = NOTHING
) -> Any:
    """Run `python -m MODULE --one PART` and return what it has told with `tell`.

    Raises:
        BrokenPart: it took longer than `limit_s`, or ended without.
    """
    command = [sys.executable, "-m", module, "--one", part]
    environment = {**os.environ, **environment}
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=limit_s, env=environment, check=False
        )
    except subprocess.TimeoutExpired:
        raise BrokenPart(f"not done within {limit_s:.0f} s") from None
    found = [line for line in done.stdout.splitlines() if line.startswith(MARK)]
    if done.returncode or not found:
        sys.stderr.write(done.stderr)
        last = (done.stderr.strip().splitlines() or ["nothing was said"])[-1]
        raise BrokenPart(f"its process ended with code {done.returncode}: {last}")
    return json.loads(found[-1].removeprefix(MARK))


def tell(found: object) -> None:
    """Say what this part has found, for the process that runs all of them."""
    print(f"\n{MARK}{json.dumps(found)}", flush=True)

"""Runs a framework's program against a server, in its own environment."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

from tests.clients.asking import MODEL, PICTURE_PATH
from tests.clients.frameworks.catalogue import Framework
from tests.clients.installed import (
    is_done,
    npm_folder,
    npm_packages,
    python_folder,
    python_packages,
)

PROGRAM_TIMEOUT_S = 180
OFFLINE = {
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",  # else it asks the internet for its price list
    "HAYSTACK_TELEMETRY_ENABLED": "False",
}


def is_installed(framework: Framework) -> bool:
    if framework.is_node:
        return is_done(npm_folder(framework.program.parent / "package.json"))
    return is_done(python_folder(framework.packages))


def command(framework: Framework) -> list[str | Path]:
    """Return what starts the program; installs what it needs if that is not there."""
    if framework.is_node:
        packages = npm_packages(framework.program.parent / "package.json")
        # Node looks for packages beside the program.
        return ["node", shutil.copy(framework.program, packages)]
    return [python_packages(framework.packages), framework.program]


def outcomes(framework: Framework, base_url: str) -> dict[str, Any]:
    """Return what came of each trial. Raises AssertionError for a program that breaks."""
    run = subprocess.run(
        [*command(framework), base_url, MODEL, PICTURE_PATH],
        env={**os.environ, **OFFLINE},
        capture_output=True,
        text=True,
        timeout=PROGRAM_TIMEOUT_S,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    told: dict[str, Any] = json.loads(run.stdout.splitlines()[-1])
    return told

"""The folder that the user stands in; the launchers run everything in the project's own."""

from __future__ import annotations

import os
from pathlib import Path

VARIABLE = "CALLED_FROM"


def called_from() -> Path:
    """Return that folder, and keep it from whatever is started next."""
    return Path(os.environ.pop(VARIABLE, os.curdir)).absolute()


def go_back() -> None:
    """Make relative paths mean to this process what they mean to the user."""
    os.chdir(called_from())

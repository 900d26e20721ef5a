"""How this project is installed: a clone with `scripts/...`, or a wheel with one command.

Python's own library only: `scripts/doctor` works when nothing else does.
"""

from __future__ import annotations

from pathlib import Path

PROGRAM = "proxy-oai-compat"
ROOT = Path(__file__).resolve().parent.parent
PROCFILE = "Procfile"

IS_CLONE = (ROOT / PROCFILE).is_file()
"""A wheel unpacks its packages beside those of others: their folder is nobody's project."""


def command_name(command: str) -> str:
    """What the user types: `scripts/chat`, or `proxy-oai-compat chat`."""
    return f"scripts/{command}" if IS_CLONE else f"{PROGRAM} {command}"


def project_file(path: str) -> Path:
    """Return a file of the project's folder; a wheel holds copies of those that are needed.

    Args:
        path: relative to the project's folder.
    """
    return ROOT / path if IS_CLONE else Path(__file__).parent / "project_files" / Path(path).name


def home() -> Path:
    """The folder that `.env` and `keys/` lie in: the clone's own, else the one the user is in."""
    return ROOT if IS_CLONE else Path.cwd()

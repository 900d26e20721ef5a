"""How a model is named to a worker: a folder or a hub id, and before it, if wanted, a name."""

from __future__ import annotations

import os
import re
from pathlib import Path

FOLDER_SIGNS = ("/", ".", "~")
HUB_ID = re.compile(r"[\w-][\w.-]*/[\w.-]+")


def split_name(value: str, here: Path | None = None) -> tuple[str, str]:
    """Return the name of `NAME=PATH`, empty where there is none, and the path.

    A folder that is there is a folder, whatever it is called.

    Args:
        here: where relative paths start; None: in the current folder.
    """
    if below(value, here).is_dir() or value.startswith(FOLDER_SIGNS):
        return "", value
    name, equals, path = value.partition("=")
    return (name, path) if equals else ("", value)


def below(path: str, here: Path | None = None) -> Path:
    """The path as a folder would be found by it."""
    return (here or Path()) / expanded(path)


def expanded(path: str) -> Path:
    """With a home folder for `~`; that of an unknown user is nowhere, and not found."""
    return Path(os.path.expanduser(path))

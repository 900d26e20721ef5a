"""What was typed before, for the arrow keys: a file that only its user can read."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from scripts.installation import PROGRAM
from shared.model_path import expanded

KEPT_LINES = 1000


def history_file() -> Path:
    state = os.environ.get("XDG_STATE_HOME") or "~/.local/state"
    return expanded(state) / PROGRAM / "chat_history"


@contextmanager
def kept_history(file: Path) -> Iterator[None]:
    """Give `input()` its line editing, and the lines of earlier conversations, as long as this
    lasts. What cannot be kept is no reason not to talk."""
    try:
        import readline
    except ImportError:
        yield
        return
    if not sys.stdin.isatty():
        yield
        return
    readline.set_history_length(KEPT_LINES)
    with suppress(OSError):
        readline.read_history_file(file)
    try:
        yield
    finally:
        with suppress(OSError):
            _make_private(file)
            readline.write_history_file(file)


def _make_private(file: Path) -> None:
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    file.touch(mode=0o600)
    file.chmod(0o600)

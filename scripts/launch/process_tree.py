"""Which processes a process has started."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator
from pathlib import Path

PROC = Path("/proc")


def children(pid: int) -> list[int]:
    """Return the processes whose parent this one is."""
    return [child for child, parent in _parents() if parent == pid]


def _parents() -> Iterator[tuple[int, int]]:
    """Every process and its parent. A Mac has no /proc, and a small Linux image no `ps`."""
    if not (PROC / "self" / "stat").exists():
        listed = subprocess.run(
            ["ps", "-A", "-o", "pid=,ppid="], capture_output=True, text=True, check=False
        )
        yield from (
            (int(pid), int(ppid)) for pid, ppid in map(str.split, listed.stdout.splitlines())
        )
        return
    for entry in PROC.iterdir():
        if entry.name.isdecimal():
            # It may end while it is looked at.
            with contextlib.suppress(OSError):
                # The name, in parentheses, may hold anything; state and parent come after it.
                fields = (entry / "stat").read_bytes().rpartition(b")")[2].split()
                yield int(entry.name), int(fields[1])

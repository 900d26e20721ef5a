"""A process's three standard streams, which whoever started it may have closed."""

from __future__ import annotations

import contextlib
import os


def keep_open() -> None:
    """Put the null device where one is closed, before anything else is opened.

    Else a socket or a pipe gets its number, and a child process or a library that writes there
    writes into that.
    """
    for descriptor in range(3):
        with contextlib.suppress(OSError):
            os.fstat(descriptor)
            continue
        # The lowest number that is free: this one.
        os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)

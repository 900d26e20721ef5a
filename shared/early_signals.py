"""What signals mean to a tier that is only starting, or has ended.

Importing what it is made of takes it half a second, and winding up some time, in which Python would
be ended by them as if it had failed.
"""

from __future__ import annotations

import os
import signal
from types import FrameType
from typing import NoReturn


def heed() -> None:
    """To be called before anything else is imported."""
    # A closed terminal's, or whoever asks services to read their settings again: a gateway has none
    # yet, a worker never has. Child processes inherit this.
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _leave)


def ignore() -> None:
    """To be called when the tier has ended: who starts services may tell it twice."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)


def _leave(number: int, frame: FrameType | None) -> NoReturn:
    # Not by an exception, which would surface within an import, where it may be caught.
    os._exit(0)

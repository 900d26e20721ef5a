"""Whether what started this tier still lives.

honcho gives each tier a session of its own. A terminal that is closed therefore ends honcho and
the processes that hold the tiers, and not the tiers, which would go on with nobody to stop them.
"""

from __future__ import annotations

import os

LAUNCHED_VARIABLE = "HONCHO_PROCESS_NAME"


class Launcher:
    """The parent that this process had when this was made, if honcho started it; else nobody, who
    is never gone: a service manager or a shell may leave its children to themselves."""

    def __init__(self) -> None:
        self._parent = os.getppid() if LAUNCHED_VARIABLE in os.environ else None

    @property
    def is_gone(self) -> bool:
        return self._parent is not None and os.getppid() != self._parent

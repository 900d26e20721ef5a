"""honcho on a leash: when whoever started it is gone, however that went, it stops its tiers.

    python -m scripts.launch.leashed_honcho LEASH [honcho's own arguments]

LEASH is the number of a pipe's reading end. honcho runs in a session of its own, where neither a
terminal's Ctrl-C nor its end reaches the processes that hold the tiers: they would die of them in
their first moments and leave their tiers alone. So it needs to be told otherwise.
"""

from __future__ import annotations

import os
import signal
import sys
import threading

from honcho.command import main


def stop_when_let_go(leash: int) -> None:
    """Nothing is ever written: reading ends when the other end is closed."""
    os.read(leash, 1)
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    leash = int(sys.argv.pop(1))
    threading.Thread(target=stop_when_let_go, args=(leash,), daemon=True).start()
    main()

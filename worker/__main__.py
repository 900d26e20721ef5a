"""`python -m worker`: the supervisor around one engine process."""

from __future__ import annotations

import os
import socket
import sys

from shared import logs
from shared.settings import load
from worker.settings import Settings
from worker.supervisor import Supervisor


def main() -> int:
    settings = load(Settings, "WORKER")
    name = settings.name or _made_up_name()
    logs.configure(settings.log_level, settings.log_format, f"{name} supervisor")
    return Supervisor(settings, sys.argv[1:], name).run()


def _made_up_name() -> str:
    """A name that no other worker of the fleet has: host, honcho's process name, process id."""
    role = os.environ.get("HONCHO_PROCESS_NAME", "worker")
    return f"{socket.gethostname()}-{role}-{os.getpid()}"


if __name__ == "__main__":
    sys.exit(main())

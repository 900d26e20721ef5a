"""A worker from its start to its end: the host of its models, one or several."""

from __future__ import annotations

import os
import socket

from shared import environment_file, logs
from shared.settings import load
from shared.standard_streams import keep_open
from worker.host.host import Host
from worker.settings import Settings


def main() -> int:
    keep_open()
    file = environment_file.enter()
    settings = load(Settings, "WORKER", called=file.called)
    name = name_of(settings)
    logs.configure(settings.log_level, settings.log_format, f"{name} supervisor")
    return Host(settings, name).run()


def name_of(settings: Settings) -> str:
    """A name that no other worker of the fleet has: host, honcho's process name, process id; or
    the chosen one, to which honcho's second and later workers add their number."""
    role = os.environ.get("HONCHO_PROCESS_NAME", "worker")
    if not settings.name:
        return f"{socket.gethostname()}-{role}-{os.getpid()}"
    number = role.rpartition(".")[2]
    return f"{settings.name}-{number}" if number.isdigit() and number != "1" else settings.name

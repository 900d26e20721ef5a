"""Starts both tiers with honcho and says when they are ready (`scripts/serve` runs this)."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from gateway.settings import Settings as GatewaySettings
from scripts.called_from import called_from
from scripts.installation import PROCFILE, command_name, home, project_file
from scripts.launch.flags import Flags, flags_help, read_flags
from scripts.launch.mistakes import oddities, read_keys
from scripts.launch.ports import taken_ports
from scripts.launch.ready import OwnGateway, ready_line
from scripts.launch.tiers import Tiers, say
from scripts.loopback import reachable
from shared import environment_file
from shared.environment_file import EnvironmentFile
from shared.settings import load
from shared.version import VERSION_LINE
from worker.settings import Settings as WorkerSettings

CANNOT_START = 2
"""What a tier ends with that would not start the next time either."""
STOPPED = "all has stopped, and starting again cannot help: the line with `error` above says why"

USAGE = f"""\
usage: {command_name("serve")} [--help] [--version] [flags]

Starts a gateway and its workers on this machine. With no --model-path they serve the built-in demo
model. What no flag says, `.env` may say, and what it does not say, the environment. Flags of
"""


def main(argv: Sequence[str]) -> int:
    if "-h" in argv or "--help" in argv:
        print(USAGE + flags_help())
        return 0
    if "--version" in argv:
        print(VERSION_LINE)
        return 0
    try:
        file = environment_file.read(home() / environment_file.FILE)
        flags = read_flags(argv, called_from())
        environment = complete(flags, file)
        gateway, worker = read_settings(flags, environment, file)
        keys = read_keys(gateway, flags.typed["GATEWAY"], environment, file)
        key = next(iter(keys), None)
    except ValueError as error:
        return _refuse(error)
    for oddity in oddities(file):
        print(f"{command_name('serve')}: {oddity}", file=sys.stderr)
    taken = next(taken_ports(gateway), None)
    if taken is not None:
        return _refuse(taken)
    _announce(worker, flags.workers)
    address = f"http://{reachable(gateway.host)}:{gateway.port}"
    own, started_at = OwnGateway(address, key), time.monotonic()

    def is_ready() -> bool:
        if not own.is_ready():
            return False
        seconds, model = time.monotonic() - started_at, own.model_to_name()
        say(ready_line(address, wants_key=key is not None, seconds=seconds, model=model))
        return True

    finish_s = max(gateway.shutdown_timeout, worker.drain_timeout)
    code = Tiers(finish_s).run(flags.workers, project_file(PROCFILE), home(), environment, is_ready)
    if code == CANNOT_START:
        print(f"{command_name('serve')}: {STOPPED}", file=sys.stderr)
    return code


def _refuse(reason: object) -> int:
    print(f"{command_name('serve')}: {reason}", file=sys.stderr)
    return 2


def read_settings(
    flags: Flags, environment: Mapping[str, str], file: EnvironmentFile
) -> tuple[GatewaySettings, WorkerSettings]:
    """Return both tiers' settings; what cannot be used ends the start, by the name it came with."""
    program = command_name("serve")
    gateway, worker = flags.typed["GATEWAY"], flags.typed["WORKER"]
    return (
        load(GatewaySettings, "GATEWAY", gateway, environment, program, file.called),
        load(WorkerSettings, "WORKER", worker, environment, program, file.called),
    )


def complete(flags: Flags, file: EnvironmentFile) -> dict[str, str]:
    """Return the whole environment of the tiers: flags before `.env`, as honcho has it, before the
    environment of this process, before what suits one machine."""
    environment = {**os.environ, **file.values, **flags.environment}
    gateway, _ = read_settings(flags, environment, file)
    environment.setdefault("WORKER_GATEWAY", " ".join(map(_from_here, gateway.bind)))
    if sys.stderr.isatty():
        environment.setdefault("GATEWAY_LOG_FORMAT", "text")
        environment.setdefault("WORKER_LOG_FORMAT", "text")
    environment["PYTHONUNBUFFERED"] = "1"
    # The Procfile says `python`, and means this one, whether or not its environment is active.
    environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environment.get('PATH', '')}"
    return environment


def _announce(worker: WorkerSettings, workers: int) -> None:
    lists = " and ".join(filter(None, (*worker.model_path, worker.models_dir, worker.models)))
    what = f"the models of {lists}" if worker.is_host else lists or "the built-in demo model"
    many = "1 worker" if workers == 1 else f"{workers} workers"
    say(f"Starting the gateway and {many} with {what}. Ctrl-C stops.")


def _from_here(endpoint: str) -> str:
    """Where a worker of this machine finds what the gateway binds."""
    scheme, _, address = endpoint.partition("://")
    host, colon, port = address.rpartition(":")
    if scheme != "tcp":
        return endpoint
    return f"tcp://{reachable(host.replace('*', '0.0.0.0').strip('[]'))}{colon}{port}"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""Starts both tiers with honcho and says when they are ready (`scripts/serve` runs this).

Every flag goes to the tier that knows it, as its environment variable; honcho's processes inherit
them. A flag that both tiers know (`--log-level`) goes to both.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

from honcho.environ import parse

from gateway.settings import Settings as GatewaySettings
from gateway.settings import read_api_keys
from scripts.ports import reachable, taken_ports
from shared.settings import environment_name, flag_name, load
from worker.settings import Settings as WorkerSettings

TIERS: dict[str, type[Any]] = {"GATEWAY": GatewaySettings, "WORKER": WorkerSettings}
ROOT = Path(__file__).resolve().parent.parent
EXAMPLE = ROOT / "docs" / "example_request.json"
ENVIRONMENT_FILE = ".env"
HONCHO = (sys.executable, "-m", "honcho", "start")
DEFAULT_CONCURRENCY = 8
LOOK_EVERY_S = 0.1

USAGE = """\
usage: scripts/serve [--workers N] [flags of either tier]

Starts the gateway and N workers (default 1). With no --model-path it serves the built-in demo
model. The flags of the tiers:
"""


def main(argv: Sequence[str]) -> int:
    if "-h" in argv or "--help" in argv:
        print(USAGE + _flags_help())
        return 0
    try:
        environment, workers = read_flags(argv)
    except ValueError as error:
        print(f"scripts/serve: {error}", file=sys.stderr)
        return 2
    environment = complete(environment, ROOT / ENVIRONMENT_FILE)
    gateway = load(GatewaySettings, "GATEWAY", [], environment)
    worker = load(WorkerSettings, "WORKER", [], environment)
    taken = next(taken_ports(gateway), None)
    if taken is not None:
        print(f"scripts/serve: {taken}", file=sys.stderr)
        return 2
    _announce(worker, workers)
    return _run(environment, gateway, workers)


@dataclass(frozen=True)
class Target:
    """One environment variable a flag sets; `switch` is its value when the flag takes none."""

    variable: str
    repeatable: bool = False
    switch: str | None = None


def flag_targets() -> dict[str, list[Target]]:
    """Every flag of either tier, and the variables it stands for."""
    targets: dict[str, list[Target]] = defaultdict(list)
    for prefix, settings_type in TIERS.items():
        for field in dataclasses.fields(settings_type):
            flag, variable = flag_name(field.name), environment_name(prefix, field.name)
            if isinstance(field.default, bool):
                targets[flag].append(Target(variable, switch="true"))
                targets["--no-" + flag[2:]].append(Target(variable, switch="false"))
            else:
                targets[flag].append(Target(variable, isinstance(field.default, tuple)))
    return targets


def read_flags(argv: Sequence[str]) -> tuple[dict[str, str], int]:
    """Return the environment that says the same as the flags, and the number of workers.

    Raises:
        ValueError: a flag nobody knows, or one without its value.
    """
    known = flag_targets() | {"--workers": [Target("WORKERS")]}
    environment: dict[str, str] = {}
    rest = [part for word in argv for part in _split(word)]
    while rest:
        flag = rest.pop(0)
        if flag not in known:
            raise ValueError(f"unknown flag {flag} (scripts/serve --help lists them)")
        takes_value = known[flag][0].switch is None
        if takes_value and not rest:
            raise ValueError(f"{flag} needs a value")
        value = rest.pop(0) if takes_value else ""
        for target in known[flag]:
            _set(environment, target, value)
    workers = environment.pop("WORKERS", "1")
    if not workers.isdecimal() or int(workers) < 1:
        raise ValueError(f"--workers: expected a number of at least 1, got {workers!r}")
    return environment, int(workers)


def _split(word: str) -> list[str]:
    flag, equals, value = word.partition("=")
    return [flag, value] if word.startswith("--") and equals else [word]


def _set(environment: dict[str, str], target: Target, value: str) -> None:
    before = environment.get(target.variable, "") if target.repeatable else ""
    environment[target.variable] = target.switch or f"{before} {value}".strip()


def complete(flags: Mapping[str, str], environment_file: Path) -> dict[str, str]:
    """Return the whole environment of the tiers: flags before the file, as honcho reads it, before
    the environment of this process, before what suits one machine."""
    environment = dict(os.environ)
    if environment_file.exists():
        environment.update(parse(environment_file.read_text()))
    environment.update(flags)
    environment.setdefault("WORKER_MAX_CONCURRENCY", str(DEFAULT_CONCURRENCY))
    gateway = load(GatewaySettings, "GATEWAY", [], environment)
    environment.setdefault("WORKER_GATEWAY", " ".join(map(_from_here, gateway.bind)))
    return environment


def _flags_help() -> str:
    lines = []
    for settings_type in TIERS.values():
        for field in dataclasses.fields(settings_type):
            lines.append(f"  {flag_name(field.name):32}{field.metadata['help']}")
    return "\n".join(dict.fromkeys(lines))


def _announce(worker: WorkerSettings, workers: int) -> None:
    what = worker.model_path or "the built-in demo model"
    many = "1 worker" if workers == 1 else f"{workers} workers"
    print(f"Starting the gateway and {many} with {what}. Ctrl-C stops.", flush=True)


def _run(environment: dict[str, str], gateway: GatewaySettings, workers: int) -> int:
    if sys.stderr.isatty():
        environment.setdefault("GATEWAY_LOG_FORMAT", "text")
        environment.setdefault("WORKER_LOG_FORMAT", "text")
    environment["PYTHONUNBUFFERED"] = "1"
    started_at = time.monotonic()
    honcho = subprocess.Popen(
        [*HONCHO, "--env", os.devnull, "-c", f"gateway=1,worker={workers}"],
        cwd=ROOT,
        env=environment,
    )
    _hand_on_signals(honcho)
    key = next(iter(read_api_keys(gateway)), None)
    address = f"http://{reachable(gateway.host)}:{gateway.port}"
    while honcho.poll() is None:
        if _ready(address, key):
            _say_ready(address, key is not None, time.monotonic() - started_at)
            break
        time.sleep(LOOK_EVERY_S)
    return honcho.wait()


def _hand_on_signals(honcho: subprocess.Popen[bytes]) -> None:
    """A terminal's Ctrl-C reaches honcho too, which then lets both tiers finish what runs; the
    second one ends them at once. A SIGTERM comes here alone."""
    interrupts = 0

    def on_interrupt(number: int, frame: FrameType | None) -> None:
        nonlocal interrupts
        interrupts += 1
        if interrupts == 1:
            print("Finishing what runs; Ctrl-C again stops at once.", flush=True)
        else:
            _kill_tiers(honcho)

    signal.signal(signal.SIGINT, on_interrupt)
    signal.signal(signal.SIGTERM, lambda *_: honcho.terminate())


def _kill_tiers(honcho: subprocess.Popen[bytes]) -> None:
    """honcho holds each tier through a process of its own, and gives it its own group."""
    for holder in _children(honcho.pid):
        for tier in _children(holder):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(tier, signal.SIGKILL)


def _children(pid: int) -> list[int]:
    found = subprocess.run(["pgrep", "-P", str(pid)], capture_output=True, text=True, check=False)
    return [int(child) for child in found.stdout.split()]


def _from_here(endpoint: str) -> str:
    """Where a worker of this machine finds what the gateway binds."""
    scheme, _, address = endpoint.partition("://")
    host, colon, port = address.rpartition(":")
    if scheme != "tcp":
        return endpoint
    return f"tcp://{reachable(host.replace('*', '0.0.0.0').strip('[]'))}{colon}{port}"


def _ready(address: str, key: str | None) -> bool:
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    request = urllib.request.Request(f"{address}/ready", headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=2) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def _say_ready(address: str, wants_key: bool, seconds: float) -> None:
    key = ' -H "Authorization: Bearer $KEY"' if wants_key else ""
    print(
        f"Ready after {seconds:.1f} s at {address} - try: curl -s {address}/v1/chat/completions"
        f"{key} -H 'Content-Type: application/json' -d @{EXAMPLE}",
        flush=True,
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

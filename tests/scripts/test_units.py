"""The units of systemd and launchd start what `scripts/serve` starts, shut in as far as can be."""

from __future__ import annotations

import plistlib
import re
import shlex
import shutil
import subprocess

import pytest

from gateway.settings import Settings as GatewaySettings
from scripts.launch.flags import PRESET
from shared.settings import load
from tests.processes import ROOT
from worker.settings import Settings as WorkerSettings

MOST_EXPOSURE = 3.0
TIERS: dict[str, type[GatewaySettings] | type[WorkerSettings]] = {
    "gateway": GatewaySettings,
    "worker": WorkerSettings,
}
SYSTEMD = sorted((ROOT / "scripts" / "systemd").iterdir())
LAUNCHD = sorted((ROOT / "scripts" / "launchd").iterdir())


def environment_and_command(text: str) -> tuple[dict[str, str], list[str]]:
    lines = re.findall(r"^Environment=(\w+)=(.*)$", text, re.MULTILINE)
    (command,) = re.findall(r"^ExecStart=(.*)$", text, re.MULTILINE)
    return dict(lines), shlex.split(command)


def starts() -> list[tuple[str, dict[str, str], list[str]]]:
    """Of each unit: its name, its environment, its command."""
    found = [(path.name, *environment_and_command(path.read_text())) for path in SYSTEMD]
    for path in LAUNCHD:
        unit = plistlib.loads(path.read_bytes())
        found.append((path.name, unit["EnvironmentVariables"], unit["ProgramArguments"]))
    return found


@pytest.mark.parametrize(
    ("name", "environment", "command"),
    starts(),
    ids=lambda part: part if isinstance(part, str) else "",
)
def test_a_unit_starts_a_tier_with_the_slots_of_serve(
    name: str, environment: dict[str, str], command: list[str]
) -> None:
    module = command.index("-m") + 1
    tier = command[module]
    settings: GatewaySettings | WorkerSettings = load(
        TIERS[tier], tier.upper(), command[module + 1 :], environment
    )
    assert tier in name
    if isinstance(settings, WorkerSettings):
        preset = dict(PRESET.findall((ROOT / "Procfile").read_text()))
        assert settings.max_concurrency == int(preset["WORKER_MAX_CONCURRENCY"])
        assert settings.drain_timeout == 60
    else:
        assert settings.shutdown_timeout == 60


@pytest.mark.process
@pytest.mark.parametrize("unit", SYSTEMD, ids=lambda path: path.name)
def test_systemd_finds_it_well_shut_in(unit: object) -> None:
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        pytest.skip("needs systemd-analyze (Debian: apt-get install systemd)")
    done = subprocess.run(
        [analyze, "security", "--offline=true", str(unit)],
        capture_output=True,
        text=True,
        check=False,
    )
    found = re.search(r"Overall exposure level for .*: ([\d.]+)", done.stdout)
    assert found is not None, done.stderr
    assert float(found[1]) < MOST_EXPOSURE

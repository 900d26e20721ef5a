"""One version, stated once, told by everything that tells one."""

from __future__ import annotations

import contextlib
import re
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest

from gateway.settings import Settings as GatewaySettings
from scripts.chat import main as chat
from scripts.launch.serve import main as serve
from shared.settings import load
from shared.version import VERSION
from worker.link.announcements import hello
from worker.loop import Progress
from worker.settings import Settings as WorkerSettings

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("settings_type", [GatewaySettings, WorkerSettings])
def test_each_tier_tells_it(settings_type: type, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        load(settings_type, "X", ["--version"], {})
    assert ended.value.code == 0
    assert capsys.readouterr().out == f"proxy-oai-compat {VERSION}\n"


@pytest.mark.parametrize("command", [serve, chat])
def test_commands_tell_it(
    command: Callable[[list[str]], int], capsys: pytest.CaptureFixture[str]
) -> None:
    with contextlib.suppress(SystemExit):  # argparse's way of ending well
        command(["--version"])
    assert capsys.readouterr().out == f"proxy-oai-compat {VERSION}\n"


def test_workers_tell_it_to_the_gateways() -> None:
    told = hello(WorkerSettings(), "w", "loading", Progress())
    assert told.versions["proxy-oai-compat"] == VERSION


def test_the_changelog_begins_with_it() -> None:
    headings = re.findall(r"^## (\S+)", (ROOT / "docs" / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert headings[0] == VERSION


def test_the_packaging_reads_it() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert "version" in project["project"]["dynamic"]
    source = project["tool"]["hatch"]["version"]
    found = re.search(source["pattern"], (ROOT / source["path"]).read_text(), re.MULTILINE)
    assert found is not None and found["version"] == VERSION

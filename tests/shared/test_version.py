"""One version, stated once, told by everything that tells one."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from gateway.settings import Settings as GatewaySettings
from shared.settings import load
from shared.version import VERSION
from worker.settings import Settings as WorkerSettings

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("settings_type", [GatewaySettings, WorkerSettings])
def test_each_tier_tells_it(settings_type: type, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        load(settings_type, "X", ["--version"], {})
    assert ended.value.code == 0
    assert capsys.readouterr().out == f"proxy-oai-compat {VERSION}\n"


def test_the_changelog_begins_with_it() -> None:
    headings = re.findall(r"^## (\S+)", (ROOT / "docs" / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert headings[0] == VERSION


def test_the_packaging_reads_it() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert project["project"]["dynamic"] == ["version"]
    assert project["tool"]["setuptools"]["dynamic"]["version"]["attr"] == "shared.version.VERSION"

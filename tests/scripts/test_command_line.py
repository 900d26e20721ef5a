"""The wheel and its one command, from a folder that has nothing to do with the project."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import httpx
import pytest

from scripts.command_line import COMMANDS
from tests.processes import ROOT, Tier
from tests.waiting import await_condition, free_port

pytestmark = pytest.mark.process

ENTRY = "from scripts.command_line import main; main()"
"""What the installed command holds."""

HELP_OF_ALL = """
import sys
from scripts.command_line import main
for command in sys.argv[1:]:
    print(end="\\f")
    sys.argv = ["proxy-oai-compat", command, "--help"]
    try:
        main()
    except SystemExit as ended:
        assert not ended.code, command
"""
"""All in one process: each would import the same again."""


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel's content, as pip unpacks it."""
    built, folder = tmp_path_factory.mktemp("built"), tmp_path_factory.mktemp("site")
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(built)]
    done = subprocess.run(build, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (wheel,) = built.glob("*.whl")
    zipfile.ZipFile(wheel).extractall(folder)
    return folder


@pytest.fixture
def elsewhere(tmp_path: Path) -> Path:
    """A user's folder, with packages of the same names in it."""
    for name in ("gateway", "worker", "shared", "scripts"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("raise ImportError('not the wheel')")
    return tmp_path


def environment(site: Path) -> dict[str, str]:
    # An installed command's own folder comes first on its path, not the user's.
    return {**os.environ, "PYTHONPATH": str(site), "PYTHONSAFEPATH": "1"}


def run(site: Path, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", ENTRY, *arguments],
        cwd=folder,
        env=environment(site),
        capture_output=True,
        text=True,
        check=False,
    )


class Installed(Tier):
    """`proxy-oai-compat serve` in a user's folder."""

    def __init__(self, site: Path, folder: Path, *flags: str) -> None:
        super().__init__("serve", *flags, environment=environment(site), folder=folder)

    def command(self, module: str, flags: tuple[str, ...]) -> list[str]:
        return [sys.executable, "-c", ENTRY, module, *flags]


def test_it_serves_the_demo_model(unpacked: Path, elsewhere: Path) -> None:
    port = free_port()
    (elsewhere / ".env").write_text(f"GATEWAY_PORT={port}\n")
    tier = Installed(unpacked, elsewhere, "--bind", f"tcp://127.0.0.1:{free_port()}")
    try:

        def ready() -> bool:
            assert tier.process.poll() is None, tier.output()
            return "Ready after" in tier.output()

        await_condition(ready, "the ready line")
        (example,) = re.findall(r"-d '?@([^'\s]+)'?$", tier.output(), re.MULTILINE)
        answer = httpx.post(
            f"http://127.0.0.1:{port}/v1/chat/completions",
            content=Path(example).read_bytes(),
            headers={"Content-Type": "application/json"},
            timeout=60,
        )
        assert answer.status_code == 200, answer.text
        assert "circle" in answer.json()["choices"][0]["message"]["content"]
        page = httpx.get(f"http://127.0.0.1:{port}/")
        assert page.headers["content-type"].startswith("text/html")
    finally:
        tier.stop()


def test_every_command_has_help_in_its_own_name(unpacked: Path, elsewhere: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", HELP_OF_ALL, *COMMANDS],
        cwd=elsewhere,
        env=environment(unpacked),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    helps = done.stdout.split("\f")[1:]
    for command, told in zip(COMMANDS, helps, strict=True):
        assert "usage:" in told and f"proxy-oai-compat {command}" in told
        assert "scripts/" + command not in told


@pytest.mark.parametrize("tier", ["gateway", "worker"])
def test_a_tier_alone_reads_the_same_file(unpacked: Path, elsewhere: Path, tier: str) -> None:
    (elsewhere / ".env").write_text("GATEWAY_PORT='80\n")
    done = run(unpacked, elsewhere, tier)
    assert (done.returncode, done.stderr) == (2, ".env, line 1: No closing quotation\n")


def test_what_is_not_there_is_said(unpacked: Path, elsewhere: Path) -> None:
    done = run(unpacked, elsewhere, "srve")
    assert done.returncode == 2
    assert "no command 'srve'; is serve meant?" in done.stderr
    assert all(command in done.stderr for command in COMMANDS)
    assert run(unpacked, elsewhere, "--version").stdout.startswith("proxy-oai-compat ")


def test_the_wheel_brings_no_more_than_what_serves(unpacked: Path) -> None:
    packages = {folder.name for folder in unpacked.iterdir() if folder.suffix != ".dist-info"}
    assert packages == {"gateway", "worker", "shared", "scripts"}


def test_the_wheel_wants_what_a_clone_installs(unpacked: Path) -> None:
    (metadata,) = unpacked.glob("*.dist-info/METADATA")
    wanted = re.findall(r"^Requires-Dist: ([\w-]+)", metadata.read_text(), re.MULTILINE)
    lines = (ROOT / "requirements.txt").read_text().splitlines()
    listed = [re.split(r"[\[=<>;]", line)[0] for line in lines if line and line[0] != "#"]
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = [name for group in project["optional-dependencies"].values() for name in group]
    assert sorted(wanted) == sorted([*listed, *(re.split(r"\W", name)[0] for name in extras)])

"""`openai` for Node, installed from npm once and kept outside the repository."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest

from tests.clients.asking import CAPITAL_ANSWER, COUNT_ANSWER, MODEL, PICTURE_URL

HERE = Path(__file__).parent
INSTALL_TIMEOUT_S = 180


def cache_folder() -> Path:
    """One folder for each wanting of packages, so that a change installs afresh."""
    wanted = (HERE / "package.json").read_bytes()
    base = Path(os.environ.get("XDG_CACHE_HOME", tempfile.gettempdir()))
    return (
        base
        / "proxy-oai-compat-clients"
        / f"{hashlib.sha256(wanted).hexdigest()[:16]}-{os.getuid()}"
    )


@pytest.fixture(scope="session")
def installed() -> Path:
    if not (shutil.which("node") and shutil.which("npm")):
        pytest.skip("node and npm are not installed (brew install node, apt install nodejs npm)")
    folder = cache_folder()
    if (folder / "done").exists():
        return folder
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copy(HERE / "package.json", folder)
    made = subprocess.run(
        ["npm", "install", "--no-audit", "--no-fund", "--no-package-lock"],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=INSTALL_TIMEOUT_S,
        check=False,
    )
    assert made.returncode == 0, made.stderr
    (folder / "done").touch()
    return folder


def test_chat_pictures_streams_and_errors(installed: Path, base_url: str) -> None:
    script = str(HERE / "openai_node.mjs")
    run = subprocess.run(
        ["node", script, base_url, MODEL, PICTURE_URL, str(installed)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    assert json.loads(run.stdout) == {
        "whole": CAPITAL_ANSWER,
        "seen": COUNT_ANSWER,
        "streamed": CAPITAL_ANSWER,
        "response": CAPITAL_ANSWER,
        "refused": "temperature",
        "models": [MODEL],
    }

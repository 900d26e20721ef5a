"""What clients need of npm's packages, installed once and kept outside the repository."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest

PACKAGES = Path(__file__).parent / "package.json"
INSTALL_TIMEOUT_S = 180


def npm_packages() -> Path:
    """Return the folder that they are in; skips the test where there is no npm."""
    if not (shutil.which("node") and shutil.which("npm")):
        pytest.skip("node and npm are not installed (brew install node, apt install nodejs npm)")
    folder = _cache_folder()
    if (folder / "done").exists():
        return folder
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copy(PACKAGES, folder)
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


def _cache_folder() -> Path:
    """One folder for each wanting of packages, so that a change installs afresh."""
    wanted = hashlib.sha256(PACKAGES.read_bytes()).hexdigest()[:16]
    base = Path(os.environ.get("XDG_CACHE_HOME", tempfile.gettempdir()))
    return base / "proxy-oai-compat-clients" / f"{wanted}-{os.getuid()}"

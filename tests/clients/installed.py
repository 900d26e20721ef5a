"""Other people's packages, each wanting of them installed once and kept outside the repository."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import pytest

PACKAGES = Path(__file__).parent / "package.json"
INSTALL_TIMEOUT_S = 600


def npm_packages(packages: Path = PACKAGES) -> Path:
    """Return the folder that they are in; skips the test where there is no npm.

    Args:
        packages: a `package.json`.
    """
    if not (shutil.which("node") and shutil.which("npm")):
        pytest.skip("node and npm are not installed (brew install node, apt install nodejs npm)")
    folder = npm_folder(packages)
    if not is_done(folder):
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copy(packages, folder)
        _run(["npm", "install", "--no-audit", "--no-fund", "--no-package-lock"], folder)
        (folder / "done").touch()
    return folder


def python_packages(wanted: Sequence[str]) -> Path:
    """Return the Python of an environment that has these requirements and nothing else."""
    folder = python_folder(wanted)
    python = folder / "bin" / "python"
    if not is_done(folder):
        _run([sys.executable, "-m", "venv", "--without-pip", "--clear", str(folder)])
        pip = [sys.executable, "-m", "pip", "--python", str(python), "--disable-pip-version-check"]
        _run([*pip, "install", "--quiet", *wanted])
        (folder / "done").touch()
    return python


def npm_folder(packages: Path) -> Path:
    return _cache_folder(packages.read_bytes())


def python_folder(wanted: Sequence[str]) -> Path:
    return _cache_folder("\n".join([sys.version, *wanted]).encode())


def is_done(folder: Path) -> bool:
    """Whether an installation has come to its end."""
    return (folder / "done").exists()


def _run(command: Sequence[str | Path], folder: Path | None = None) -> None:
    made = subprocess.run(
        command,
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=INSTALL_TIMEOUT_S,
        check=False,
    )
    assert made.returncode == 0, made.stderr


def _cache_folder(wanted: bytes) -> Path:
    """One folder for each wanting of packages, so that a change installs afresh."""
    digest = hashlib.sha256(wanted).hexdigest()[:16]
    base = Path(os.environ.get("XDG_CACHE_HOME", tempfile.gettempdir()))
    return base / "proxy-oai-compat-clients" / f"{digest}-{os.getuid()}"

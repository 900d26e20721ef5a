"""Python, the machine, its memory, and the packages that are installed."""

from __future__ import annotations

import os
import platform
import re
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

from scripts.doctor_checks.findings import GB, Finding, fine, note, wrong
from scripts.installation import IS_CLONE, PROGRAM, project_file

OLDEST_PYTHON = (3, 11)
REQUIREMENTS = project_file("requirements.txt")
REQUIREMENT = re.compile(r"^([A-Za-z0-9_-]+)(?:\[[^]]*\])?([^;]*)(?:;(.*))?$")
INSTALL = (
    "Run scripts/serve once: it makes .venv and installs what is missing."
    if IS_CLONE
    else f"Install it again: pip install --force-reinstall {PROGRAM}"
)


def check_machine() -> Iterator[Finding]:
    version = platform.python_version()
    if sys.version_info < OLDEST_PYTHON:
        yield wrong(
            f"Python {version} is too old.", "Install 3.11 or newer: brew install python@3.12"
        )
    else:
        yield fine(f"Python {version}")
    # Under Rosetta Python believes in an Intel processor; on Apple silicon it says `arm`.
    if platform.system() == "Darwin" and platform.processor() == "i386":
        yield wrong(
            "This Python runs under Rosetta or on an Intel Mac, and MLX needs Apple silicon.",
            "Open a native terminal, remove .venv, install a native Python: "
            "brew install python@3.12",
        )
    yield fine(f"{platform.platform()}, {memory_bytes() / GB:.1f} GB of memory")


def memory_bytes() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def check_packages(requirements: Path = REQUIREMENTS) -> Iterator[Finding]:
    """Compare what is installed with what is required."""
    problems = 0
    for line in requirements.read_text().splitlines():
        name, wanted, marker = _requirement(line)
        if not name or f'"{sys.platform}"' not in (marker or f'"{sys.platform}"'):
            continue
        try:
            installed = metadata.version(name)
        except metadata.PackageNotFoundError:
            problems += 1
            yield wrong(f"{name} is not installed.", INSTALL)
            continue
        if not satisfies(installed, wanted):
            problems += 1
            yield wrong(f"{name} is {installed}; required: {wanted}.", INSTALL)
    if not problems:
        versions = ", ".join(
            f"{n} {metadata.version(n)}" for n in ("mlx", "mlx-vlm", "transformers")
        )
        yield fine(f"All packages are installed as required ({versions})")
        yield _device()


def satisfies(installed: str, wanted: str) -> bool:
    """Whether a version meets conditions such as `>=1.9,<2`; enough for our own requirements."""
    tests = {
        "==": lambda a, b: a == b,
        ">=": lambda a, b: a >= b,
        "<": lambda a, b: a < b,
    }
    for condition in filter(None, (part.strip() for part in wanted.split(","))):
        found = re.match(r"(==|>=|<)\s*(.+)", condition)
        if found and not tests[found[1]](*_padded(installed, found[2])):
            return False
    return True


def _requirement(line: str) -> tuple[str, str, str | None]:
    found = REQUIREMENT.match(line.partition("#")[0].strip())
    return (found[1], found[2].strip(), found[3]) if found else ("", "", None)


def _padded(first: str, second: str) -> list[list[int]]:
    versions = [[int(part) for part in re.findall(r"\d+", text)[:4]] for text in (first, second)]
    length = max(map(len, versions))
    return [version + [0] * (length - len(version)) for version in versions]


def _device() -> Finding:
    try:
        import mlx.core as mx

        if mx.metal.is_available():
            return fine(f"MLX computes on Metal ({mx.device_info().get('device_name', 'GPU')})")
        if mx.cuda.is_available():
            return fine(f"MLX computes on CUDA ({mx.device_info().get('device_name', 'GPU')})")
    except Exception as error:
        return wrong(f"MLX cannot be loaded: {error}", INSTALL)
    if platform.system() == "Darwin":
        return wrong(
            "MLX finds no Metal device.", "Use a Mac with Apple silicon, not a virtual one."
        )
    return note("MLX computes on the CPU here.", "Good for trying it out; slow for real models.")

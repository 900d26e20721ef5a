"""How all tests run: their marks, `--quick`, and that no test starts a process unmarked."""

from __future__ import annotations

import gc
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

from tests.imports import MLX, reached
from tests.properties import QUICK

# A busy machine is no reason to fail: what is slow is measured by scripts/bench, not here.
settings.register_profile("unhurried", deadline=None)
settings.register_profile(QUICK, deadline=None, max_examples=20)

TESTS = Path(__file__).resolve().parent

MARKS = {
    "process": "starts processes: gateways, workers, scripts, other people's clients",
    "mlx": "computes with MLX",
    "browser": "drives a real Chromium",
    "clients": "is other people's client of the API",
    "frameworks": "is a framework over that API, in an environment of its own",
}
SLOW = frozenset({"process", "mlx"})
"""What --quick leaves out."""
BY_FOLDER = {"page": "browser", "clients": "clients", "frameworks": "frameworks"}
STARTERS = {"subprocess", "multiprocessing"}
STARTS = {"subprocess.Popen", "os.fork", "os.forkpty", "os.posix_spawn", "os.exec", "os.system"}
"""The interpreter's audit events of a process being started."""
HARMLESS = {"uname"}
"""What Python's own `platform` asks; openai's client tells servers the answer."""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--quick", action="store_true", help=f"leave out: {', '.join(sorted(SLOW))}")


def shares_the_work(config: pytest.Config) -> bool:
    """Whether this is one of several processes that pytest-xdist has started."""
    return hasattr(config, "workerinput")


def pytest_configure(config: pytest.Config) -> None:
    # All workers of a session share what one has proven: only the first start of a model is slow.
    if not shares_the_work(config):
        os.environ["WORKER_PROOF_CACHE"] = tempfile.mkdtemp(prefix="proofs-")
        # Engines share memory with those they meet: not with a server that runs here, too.
        os.environ["XDG_RUNTIME_DIR"] = tempfile.mkdtemp(prefix="runtime-")
    config.stash[LEFT_OUT] = []
    settings.load_profile(QUICK if config.getoption("--quick") else "unhurried")
    for mark, meaning in MARKS.items():
        config.addinivalue_line("markers", f"{mark}: {meaning}")


def pytest_unconfigure(config: pytest.Config) -> None:
    if not shares_the_work(config):
        for made in ("WORKER_PROOF_CACHE", "XDG_RUNTIME_DIR"):
            shutil.rmtree(os.environ[made], ignore_errors=True)


@cache
def marks_of(path: Path) -> frozenset[str]:
    """The marks of all tests of a file: by what it imports, and by its folder."""
    # What a test starts itself is what its own imports and its fixtures' can start; what the code
    # under test starts is no matter of imports, and a mark written there.
    fixtures = [above / "conftest.py" for above in path.parents if TESTS in above.parents]
    sources = [path, *(file for file in fixtures if file.exists())]
    marks = {BY_FOLDER[part] for part in path.relative_to(TESTS).parts if part in BY_FOLDER}
    if any(reached(source, through=("tests",)).keys() & STARTERS for source in sources):
        marks.add("process")
    if reached(path).keys() & MLX:
        marks.add("mlx")
    return frozenset(marks)


LEFT_OUT = pytest.StashKey[list[Path]]()
"""Files of which --quick leaves out some or all tests."""


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """With --quick, files that are left out are not even imported: that takes seconds."""
    if not config.getoption("--quick") or not collection_path.match("test_*.py"):
        return None
    if not marks_of(collection_path) & SLOW:
        return None
    config.stash[LEFT_OUT].append(collection_path)
    return True


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    for item in items:
        for mark in marks_of(item.path):
            item.add_marker(mark)
    if config.getoption("--quick"):
        left_out = [item for item in items if any(map(item.get_closest_marker, SLOW))]
        items[:] = [item for item in items if not any(map(item.get_closest_marker, SLOW))]
        config.hook.pytest_deselected(items=left_out)
        config.stash[LEFT_OUT] += {item.path for item in left_out}
    if shares_the_work(config):
        # What takes long first, so that quick files are left to fill up the end of whoever is done.
        items.sort(key=lambda item: not any(map(item.get_closest_marker, SLOW)))


def pytest_collection_finish() -> None:
    """What has been imported lives to the end: the collector need not look at it again and again,
    which took a fifth of the time."""
    gc.collect()
    gc.freeze()


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """One of several processes has ended; all have left out the same."""
    left_out = node.workeroutput.get("left_out", ()) if hasattr(node, "workeroutput") else ()
    node.config.stash[LEFT_OUT] = [Path(path) for path in left_out]


def pytest_sessionfinish(session: pytest.Session) -> None:
    output = getattr(session.config, "workeroutput", None)
    if output is not None:
        output["left_out"] = sorted({str(path) for path in session.config.stash[LEFT_OUT]})


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    left_out = terminalreporter.config.stash[LEFT_OUT]
    if not left_out:
        return
    terminalreporter.section("left out by --quick")
    terminalreporter.line(f"{len(left_out)} files, of some only a part; scripts/test runs all:")
    folders = sorted({path.parent for path in left_out})
    for folder in folders:
        names = sorted(path.name for path in left_out if path.parent == folder)
        terminalreporter.line(f"{folder.relative_to(TESTS.parent)}: {' '.join(names)}")


# --- no process unmarked -------------------------------------------------------------------

_unmarked: pytest.Item | None = None
"""The test that is running, when it may start no process."""


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    global _unmarked
    _unmarked = None if item.get_closest_marker("process") else item
    try:
        return (yield)
    finally:
        _unmarked = None


def _refuse_processes(event: str, arguments: tuple[object, ...]) -> None:
    if event not in STARTS or _unmarked is None:
        return
    if not (arguments and arguments[0] in HARMLESS):
        pytest.fail(f"{event} {arguments[:2]}: a test that starts a process says so in its marks")


sys.addaudithook(_refuse_processes)

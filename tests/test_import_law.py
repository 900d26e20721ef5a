"""Who may import whom: by folder, over whatever lies in it, so that no list can drift."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

from tests.imports import MLX, OURS, ROOT, TIERS, file_of, imported, reached

HTTP = {"fastapi", "starlette", "uvicorn", "pydantic"}

FORBIDDEN = {
    "shared": {"gateway", "worker", "scripts", "tests", *MLX, *HTTP},
    "gateway": {"worker", "scripts", "tests", *MLX},
    "gateway/dispatch": HTTP,
    "gateway/dispatch/core": {"zmq", "asyncio", "time", "threading", "prometheus_client"},
    "worker": {"gateway", "scripts", "tests", *HTTP},
    "worker/link": MLX,
    "worker/engine": {"zmq"},
    "worker/engine/text": {"mlx", "zmq"},
    "worker/engine/drafts": {"mlx", "zmq"},
    "scripts": {"tests"},
}
"""What no module of a folder imports, itself or through other modules of ours."""

MOST_MODULES = 16
"""That lie flat in one folder: what a stranger takes in at a glance."""


def modules(folder: str) -> Iterator[Path]:
    yield from sorted((ROOT / folder).rglob("*.py"))


@pytest.mark.parametrize("folder", FORBIDDEN)
def test_each_folder_reaches_only_what_it_may(folder: str) -> None:
    files = list(modules(folder))
    assert files
    for path in files:
        packages = reached(path)
        for package in packages.keys() & FORBIDDEN[folder]:
            through = packages[package].relative_to(ROOT)
            pytest.fail(f"{path.relative_to(ROOT)} reaches {package} through {through}")


def test_mlx_is_reached_only_by_the_engine_and_by_who_starts_it() -> None:
    starter = ROOT / "worker" / "engine_process.py"
    for path in modules("worker"):
        if (ROOT / "worker" / "engine") not in path.parents and path != starter:
            assert not reached(path).keys() & MLX, path


def room(path: Path) -> str:
    """A folder of modules alone is one room; a module beside folders is one of its own."""
    is_leaf = not any(child.is_dir() and any(child.glob("*.py")) for child in path.parent.iterdir())
    return str((path.parent if is_leaf else path).relative_to(ROOT))


def test_rooms_form_no_circle() -> None:
    graph: dict[str, set[str]] = {}
    for path in (path for tier in TIERS for path in modules(tier)):
        others: Iterable[Path | None] = (file_of(name) for name in imported(path))
        rooms = {room(other) for other in others if other is not None}
        graph.setdefault(room(path), set()).update(rooms - {room(path)})
    TopologicalSorter(graph).prepare()  # raises CycleError, which names the circle


def test_no_folder_is_an_attic() -> None:
    for folder in {path.parent for top in OURS for path in modules(top)}:
        flat = [path.name for path in folder.glob("*.py") if path.name != "__init__.py"]
        assert len(flat) <= MOST_MODULES, f"{folder.relative_to(ROOT)}: {len(flat)} modules"

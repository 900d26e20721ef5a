"""Who may import whom: the rule that keeps the tiers apart."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
MLX = {"mlx", "mlx_vlm", "mlx_lm", "transformers", "torch"}
HTTP = {"fastapi", "starlette", "uvicorn", "pydantic"}
FORBIDDEN = {
    "shared": {"gateway", "worker", *MLX, *HTTP},
    "gateway": {"worker", *MLX},
    "worker": {"gateway", *HTTP},
}
PURE = {"jobs", "admission", "workers", "routing", "dispatcher", "failover", "membership"}


def modules(room: str) -> Iterator[Path]:
    yield from sorted((ROOT / room).rglob("*.py"))


def imported(path: Path) -> set[str]:
    """Full names of the modules that a file imports, wherever in the file."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative imports hide who imports whom"
            names.add(node.module or "")
    return names


def packages(path: Path) -> set[str]:
    return {name.partition(".")[0] for name in imported(path)}


@pytest.mark.parametrize("room", FORBIDDEN)
def test_each_room_imports_only_what_it_may(room: str) -> None:
    files = list(modules(room))
    assert files
    for path in files:
        trespassing = packages(path) & FORBIDDEN[room]
        assert not trespassing, f"{path.relative_to(ROOT)} imports {sorted(trespassing)}"


def test_mlx_is_imported_only_by_the_engine() -> None:
    for path in modules("worker"):
        if (ROOT / "worker" / "engine") not in path.parents:
            assert not packages(path) & MLX, path


def test_the_engine_knows_no_sockets() -> None:
    for path in (ROOT / "worker" / "engine").rglob("*.py"):
        assert "zmq" not in packages(path), path


def test_dispatch_knows_no_http_and_its_core_no_sockets_and_no_clock() -> None:
    for path in (ROOT / "gateway" / "dispatch").glob("*.py"):
        assert not packages(path) & HTTP, path
        if path.name in (
            "jobs.py",
            "admission.py",
            "workers.py",
            "routing.py",
            "dispatcher.py",
            "failover.py",
        ):
            assert not packages(path) & {"zmq", "asyncio", "time"}, path

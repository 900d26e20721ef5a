"""What a file of this repository imports, itself and through other files of it."""

from __future__ import annotations

import ast
from collections.abc import Collection, Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TIERS = ("gateway", "worker", "shared")
OURS = (*TIERS, "scripts", "tests")
MLX = {"mlx", "mlx_vlm", "mlx_lm", "transformers", "torch"}


@cache
def imported(path: Path) -> frozenset[str]:
    """Full names of what a file imports when it is imported: modules, and names in them."""
    names: set[str] = set()
    for node in _at_import(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative imports hide who imports whom"
            names.update(f"{node.module}.{alias.name}" for alias in node.names)
    return frozenset(names)


def _at_import(tree: ast.Module) -> Iterator[ast.AST]:
    """Everything but what only a type checker reads."""
    waiting: list[ast.AST] = [tree]
    while waiting:
        node = waiting.pop()
        yield node
        if not (isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"):
            waiting.extend(ast.iter_child_nodes(node))


def file_of(name: str) -> Path | None:
    """The file of ours that a full name stands for, or is a part of."""
    while name.partition(".")[0] in OURS:
        path = ROOT / name.replace(".", "/")
        if path.with_suffix(".py").exists():
            return path.with_suffix(".py")
        if (path / "__init__.py").exists():
            return path / "__init__.py"
        name = name.rpartition(".")[0]
    return None


def reached(path: Path, through: Collection[str] = OURS) -> dict[str, Path]:
    """Every package that importing a file brings in, with the file of ours that asks for it.

    Args:
        through: the folders of ours whose files are followed.
    """
    packages: dict[str, Path] = {}
    seen, waiting = {path}, [path]
    while waiting:
        file = waiting.pop()
        for name in imported(file):
            top = name.partition(".")[0]
            packages.setdefault(top, file)
            ours = file_of(name) if top in through else None
            if ours is not None and ours not in seen:
                seen.add(ours)
                waiting.append(ours)
    return packages

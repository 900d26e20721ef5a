"""Loads OpenBLAS before anything imports MLX, and builds each checkpoint once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from worker.engine.model import blas

blas.load()

from scripts.checkpoints.building import build  # noqa: E402
from tests.worker.engine.driving import Driver  # noqa: E402
from worker.engine.options import EngineOptions  # noqa: E402

MakeDriver = Callable[..., Driver]


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Returns a family's checkpoint, built when first asked for."""
    built: dict[str, Path] = {}

    def of(family: str) -> Path:
        if family not in built:
            built[family] = build(family, tmp_path_factory.mktemp(family))
        return built[family]

    return of


@pytest.fixture
def drive(checkpoint: Callable[[str], Path]) -> MakeDriver:
    """Makes engines."""

    def make(family: str = "qwen2_vl", **options: object) -> Driver:
        path = options.pop("model_path", None) or checkpoint(family)
        return Driver(EngineOptions(model_path=str(path), **options))  # type: ignore[arg-type]

    return make


@pytest.fixture(scope="session")
def anew(checkpoint: Callable[[str], Path]) -> MakeDriver:
    """Engines that begin anew: one a family and set of options, loaded when first asked for, which
    has forgotten at each further call whatever came before. Not for what is changed in a test, nor
    for two engines at a time."""
    kept: dict[tuple[object, ...], Driver] = {}

    def make(family: str = "qwen2_vl", **options: object) -> Driver:
        key = (family, *sorted(options.items()))
        if key in kept:
            kept[key].begin_anew()
        else:
            given = EngineOptions(model_path=str(checkpoint(family)), **options)  # type: ignore[arg-type]
            kept[key] = Driver(given)
        return kept[key]

    return make

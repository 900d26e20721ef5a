"""A process that drives `BatchGenerator`, or our engine, directly, one wave after the other.

    python -m scripts.benchmarks.in_process.child MODEL own|openblas float16|float32

It reads orders from stdin and answers each with one line on stdout, both JSON, so that it can take
turns with others.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

from scripts.benchmarks.in_process.clocks import Clocks
from scripts.benchmarks.servers.processes import NOTHING, ROOT
from worker.engine.model import blas

GENERATOR, ENGINE = "generator", "engine"


@dataclass(frozen=True)
class Order:
    """One wave: all texts at once, so many tokens each. `side`: one of the two above; `pictures`:
    each text comes with one."""

    side: str
    texts: list[str]
    tokens: int
    pictures: bool = False


class InProcess:
    """Such a process, seen from outside.

    Args:
        blas: "own" of MLX's wheel, or "openblas".
        environment: added to what it inherits.
    """

    def __init__(
        self,
        model: Path,
        blas: str = "openblas",
        precision: str = "float32",
        environment: Mapping[str, str] = NOTHING,
    ) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", __name__, str(model), blas, precision],
            cwd=ROOT,
            env={**os.environ, **environment},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def __enter__(self) -> InProcess:
        return self

    def __exit__(self, *error: object) -> None:
        with self._process:  # which closes its pipes and waits for its end
            self._process.kill()

    def wave(self, order: Order) -> Clocks:
        """Raises RuntimeError: the process has ended."""
        assert self._process.stdin is not None and self._process.stdout is not None
        try:
            print(json.dumps(asdict(order)), file=self._process.stdin, flush=True)
        except BrokenPipeError:
            pass  # it says why on stderr
        for line in self._process.stdout:
            if line.startswith("{"):
                return Clocks(**json.loads(line))
        raise RuntimeError("the process that drives the engine has ended; see above")


def main(model: str, library: str, precision: str) -> int:
    if library == "openblas":
        blas.load()  # before anything imports MLX
    the_blas: Any = blas
    the_blas.load = lambda: None
    loading: Any = import_module("worker.engine.model.loading")
    if precision == "float16":
        loading._to_float32 = lambda model: None  # noqa: SLF001 - what else would undo it?
    engines: Any = import_module("scripts.benchmarks.in_process.engines")

    @cache
    def side(name: str) -> Any:
        if name == ENGINE:
            return engines.Ours(model)
        return engines.Theirs(model, side(ENGINE).engine.writer.write)

    for line in sys.stdin:
        order = Order(**json.loads(line))
        driven = side(order.side)
        took = driven.run(engines.asked(order.texts, order.tokens, order.pictures))
        print(json.dumps(asdict(took)), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))

"""Starts an engine in this process and prints how long each phase took, as JSON.

python -m scripts.benchmarks.in_process.start_phases MODEL

Imports come in the order in which the worker needs them; each has what the ones before left over.
"""

from __future__ import annotations

import json
import sys
from importlib import import_module
from typing import Any

from scripts.benchmarks.in_process.clocks import Clocks
from worker.engine.model import blas

INTERPRETER = "interpreter"
"""Its CPU seconds are known, when it began is not."""

IMPORTS = ("worker.engine_process", "mlx.core", "transformers", "mlx_vlm", "worker.engine.load")


class Phases:
    """Seconds by phase: on the wall, and of the CPU."""

    def __init__(self) -> None:
        self._began = Clocks.now()
        self.wall_s: dict[str, float] = {}
        self.cpu_s = {INTERPRETER: self._began.cpu_s}

    def end(self, name: str) -> None:
        now = Clocks.now()
        spent, self._began = now - self._began, now
        self.wall_s[name], self.cpu_s[name] = spent.wall_s, spent.cpu_s


def main(model: str) -> int:
    phases = Phases()
    blas.load()
    phases.end("OpenBLAS")
    for name in IMPORTS:
        import_module(name)
        phases.end(f"import {name}")
    load: Any = import_module("worker.engine.load")
    options: Any = import_module("worker.engine.options")
    warm_up = load.warm_up

    def timed_warm_up(*given: Any) -> None:
        phases.end("load the model")
        warm_up(*given)
        phases.end("warm up")

    load.warm_up = timed_warm_up
    load.load_engine(options.EngineOptions(model), lambda fraction: None, lambda: None)
    print(json.dumps({"wall_s": phases.wall_s, "cpu_s": phases.cpu_s}), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))

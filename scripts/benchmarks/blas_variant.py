"""Our engine in this one process with one choice of BLAS and precision; prints its figures as JSON.

python -m scripts.benchmarks.blas_variant own|openblas float16|float32 MODEL
"""

from __future__ import annotations

import json
import sys
import time
from importlib import import_module
from typing import Any

from worker.engine.model import blas

CASES = {
    "batch 1": (1, 32, False),
    "batch 8": (8, 32, False),
    "batch 32": (32, 16, False),
    "one image": (1, 2, True),
}
"""Streams, tokens of each, with a picture."""

RUNS = 3


def main(library: str, precision: str, model: str) -> int:
    if library == "openblas":
        blas.load()  # before anything imports MLX
    blas.load = lambda: None
    loading: Any = import_module("worker.engine.model.loading")
    if precision == "float16":
        loading._to_float32 = lambda model: None
    engine: Any = import_module("scripts.benchmarks.engine")
    ours = engine.Ours(model)
    figures = {}
    for name, (streams, tokens, picture) in CASES.items():
        runs = []
        for _ in range(RUNS):
            cpu_s = time.process_time()
            seconds = ours.run(engine.requests(streams, tokens, picture))
            runs.append((seconds, time.process_time() - cpu_s))
        made = streams * tokens
        figures[name] = {
            "per_second": made / min(seconds for seconds, _ in runs),
            "cpu_us": 1e6 * min(cpu_s for _, cpu_s in runs) / made,
        }
    print(json.dumps(figures), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:4]))

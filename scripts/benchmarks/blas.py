"""What OpenBLAS, its threads and float32 do for MLX on a Linux CPU, in turns in one run."""

from __future__ import annotations

import argparse
import os
import random
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from scripts.benchmarks.in_process.child import ENGINE, InProcess, Order
from scripts.benchmarks.load import loops
from scripts.benchmarks.load.loops import Outcome
from scripts.benchmarks.load.target import Case, question, target
from scripts.benchmarks.report import ProgressBar, Report, Row, alternated, median, percentile
from scripts.benchmarks.servers.processes import DEMO_MODEL
from scripts.benchmarks.servers.rivals import ours
from scripts.checkpoints.endless import endless_copy

DESCRIPTION = "MLX on the CPU with and without OpenBLAS, by threads and precision."

CASES = {
    "batch 1": (1, 32, False),
    "batch 8": (8, 32, False),
    "batch 32": (32, 16, False),
    "one image": (1, 2, True),
}
"""Streams, tokens of each, with a picture."""

RUNS = 3
THREADS = "OPENBLAS_NUM_THREADS"
"""OpenBLAS prefers it to OMP_NUM_THREADS."""

STREAMED = Case("64 tokens, streamed", 64, stream=True)
WARM_UP_S = 1.0

Figures = dict[str, dict[str, float]]
"""Of one process: tokens a second and CPU time of a token, by case."""


@dataclass(frozen=True)
class Variant:
    """`threads`: OpenBLAS's; None leaves the choice to the worker."""

    name: str
    blas: str
    precision: str
    threads: int | None


def variants() -> list[Variant]:
    cores = os.cpu_count() or 1
    return [
        Variant("MLX's own BLAS, float16", "own", "float16", 1),
        Variant("MLX's own BLAS, float32", "own", "float32", 1),
        Variant("OpenBLAS, float16, 1 thread", "openblas", "float16", 1),
        Variant("OpenBLAS, float32, 1 thread", "openblas", "float32", 1),
        Variant(f"OpenBLAS, float32, {cores} threads", "openblas", "float32", cores),
        Variant("OpenBLAS, float32, worker's choice", "openblas", "float32", None),
    ]


def environment(threads: int | None) -> dict[str, str]:
    return {} if threads is None else {THREADS: str(threads)}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--rounds", type=int, default=2, help="turns each variant gets")
    parser.add_argument("--seconds", type=float, default=4.0, help="of each run of load")
    parser.add_argument("--connections", type=int, nargs="+", help="at once", default=[1, 8, 32])


def run(options: argparse.Namespace) -> Report:
    report = Report("blas")
    cores = os.cpu_count() or 1
    systems = {"1": 1, str(cores): cores, "worker's choice": None}
    progress = ProgressBar(options.rounds * (len(variants()) + len(systems)))
    figures: dict[str, list[Figures]] = defaultdict(list)
    loads: dict[tuple[int, str], list[Outcome]] = defaultdict(list)
    for number in range(options.rounds):
        for variant in alternated(variants(), number):
            progress.step(variant.name)
            figures[variant.name].append(engine_figures(variant))
        for name in alternated(list(systems), number):
            progress.step(f"whole system, threads: {name}")
            for connections, load in whole_system(systems[name], options).items():
                loads[connections, name].append(load)
    progress.end()
    report.tables["The engine in one process"] = engine_rows(figures)
    report.tables["The whole system by OpenBLAS's threads"] = [
        {
            "connections": connections,
            "threads": threads,
            "tokens/s": median(load.per_second * STREAMED.tokens for load in found),
            "gap p99 ms": median(1e3 * percentile(load.gaps_s, 0.99) for load in found),
            "errors": sum(load.errors for load in found),
        }
        for (connections, threads), found in sorted(loads.items())
    ]
    return report


def engine_figures(variant: Variant) -> Figures:
    """Raises RuntimeError when the engine fails."""
    figures = {}
    given = environment(variant.threads)
    with InProcess(DEMO_MODEL, variant.blas, variant.precision, given) as process:
        for name, (streams, tokens, pictures) in CASES.items():
            runs = []
            for _ in range(RUNS):
                texts = [question(random.randrange(10**8, 10**9)) for _ in range(streams)]
                runs.append(process.wave(Order(ENGINE, texts, tokens, pictures)))
            made = streams * tokens
            figures[name] = {
                "per_second": made / min(run.wall_s for run in runs),
                "cpu_us": 1e6 * min(run.cpu_s for run in runs) / made,
            }
    return figures


def whole_system(threads: int | None, options: argparse.Namespace) -> dict[int, Outcome]:
    """Return what came of the load by connections."""
    loads = {}
    side = ours(environment(threads))
    with endless_copy(DEMO_MODEL) as model, side.start(model) as running:
        asked = target(STREAMED, running.url, None)
        for connections in options.connections:
            loops.run(loops.closed_loop(asked, connections, WARM_UP_S))
            loads[connections] = loops.run(loops.closed_loop(asked, connections, options.seconds))
    return loads


def engine_rows(figures: Mapping[str, Sequence[Figures]]) -> list[Row]:
    """The first variant is what the others are multiples of, round by round."""
    first = next(iter(figures.values()))
    return [
        {
            "case": case,
            "variant": name,
            "tokens/s": median(one[case]["per_second"] for one in measured),
            "times": median(
                one[case]["per_second"] / base[case]["per_second"]
                for one, base in zip(measured, first, strict=True)
            ),
            "CPU us/token": median(one[case]["cpu_us"] for one in measured),
            "less CPU, times": median(
                base[case]["cpu_us"] / one[case]["cpu_us"]
                for one, base in zip(measured, first, strict=True)
            ),
        }
        for case in CASES
        for name, measured in figures.items()
    ]

"""`scripts/gpu_check`: every check in a process of its own, results as tables and as JSON."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path

from scripts.apart import BrokenPart, run_apart, tell
from scripts.benchmarks.report import Report, Row

EXACT = {"MLX_ENABLE_TF32": "0"}
"""On CUDA, MLX multiplies float32 with ten bits of mantissa unless told otherwise."""


@dataclass(frozen=True)
class Check:
    """A module of this package, the seconds that it may take, and what its process is told."""

    module: str
    limit_s: float
    environment: Mapping[str, str] = field(default_factory=dict)


CHECKS = {
    "device": Check("device", 60),
    "service": Check("service", 120),
    "families": Check("families", 120, EXACT),
    "company": Check("company", 120, EXACT),
    "company-as-served": Check("company", 120),
    "speed": Check("speed", 240),
    "endurance": Check("endurance", 120),
}


def main(argv: Sequence[str]) -> int:
    options = parse_arguments(argv)
    if options.one is not None:
        return run_one(CHECKS[options.one].module)
    report = Report("gpu_check")
    failed = 0
    until = time.monotonic() + options.minutes * 60
    for name in options.only or CHECKS:
        limit_s = max(0.0, min(CHECKS[name].limit_s, until - time.monotonic()))
        failed += not find_out(name, limit_s, report)
        if options.json is not None:
            report.write(options.json)
    print(report.text())
    return 1 if failed else 0


def parse_arguments(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="scripts/gpu_check",
        description="Is the engine right and fast on this machine's GPU? Without one, everything "
        "runs in little, to show that it runs.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--only", nargs="+", choices=CHECKS, metavar="CHECK", help=str([*CHECKS]))
    parser.add_argument("--minutes", type=float, default=8.0, help="for all of them together")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures there")
    parser.add_argument("--one", choices=CHECKS, help=argparse.SUPPRESS)
    return parser.parse_args(argv)


def find_out(name: str, limit_s: float, report: Report) -> bool:
    """Add what a check has found; whether nothing is wrong."""
    print(f"{name} ...", file=sys.stderr, flush=True)
    started = time.monotonic()
    try:
        tables = run_apart("scripts.gpu_checks", name, limit_s, CHECKS[name].environment)
    except BrokenPart as why:
        report.notes.append(f"{name}: {why}")
        return False
    report.tables.update(tables)
    wrong = wrong_rows(tables)
    seconds = time.monotonic() - started
    report.notes.append(f"{name}: {seconds:.0f} s" + "".join(f"; wrong: {row}" for row in wrong))
    return not wrong


def wrong_rows(tables: Mapping[str, Sequence[Row]]) -> list[str]:
    """Name the rows, by their first column, whose check says that they are not as they must be."""
    rows = [row for table in tables.values() for row in table]
    return [str(next(iter(row.values()))) for row in rows if row.get("ok") is False]


def run_one(module_name: str) -> int:
    # The check's own imports come first: they give MLX its BLAS.
    module = import_module(f"scripts.gpu_checks.{module_name}")
    sizes = import_module("scripts.gpu_checks.sizes").sizes()
    tell(module.check(sizes))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

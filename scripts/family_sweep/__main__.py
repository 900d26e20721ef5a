"""`scripts/families`: every family in a process of its own, what was found as a table."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from scripts.apart import BrokenPart, run_apart, tell
from scripts.checkpoints.families import SWEPT, family
from scripts.family_sweep.row import Row
from scripts.family_sweep.table import DOCUMENT, with_tables

LIMIT_S = 600


def main(argv: Sequence[str]) -> int:
    options = parse_arguments(argv)
    if options.one is not None:
        return run_one(options.one)
    rows = [Row.of_json(one) for file in options.found for one in json.loads(file.read_text())]
    for name in options.only or (() if rows else SWEPT):
        row = find_out(name, options.limit)
        print(row, flush=True)
        rows.append(row)
        if options.json is not None:  # after each: what was found outlives an interruption
            options.json.write_text(json.dumps([one.as_json() for one in rows], indent=1))
    if options.write:
        DOCUMENT.write_text(with_tables(DOCUMENT.read_text(), rows))
    return 1 if any(row.verdict in ("wrong", "broken") for row in rows) else 0


def parse_arguments(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="scripts/families",
        description="Does the engine say what mlx-vlm says by itself? Asks a tiny checkpoint with "
        "random weights of each family.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--only", nargs="+", choices=SWEPT, metavar="FAMILY", help=str([*SWEPT]))
    parser.add_argument("--limit", type=float, default=LIMIT_S, help="seconds for each family")
    parser.add_argument(
        "--found",
        nargs="+",
        type=Path,
        default=[],
        metavar="FILE",
        help="go by what --json wrote there, and ask only those that are named",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write what was found there")
    parser.add_argument(
        "--write", action="store_true", help="write the tables of docs/models.md (all families)"
    )
    parser.add_argument("--one", choices=SWEPT, help=argparse.SUPPRESS)
    return parser.parse_args(argv)


def find_out(name: str, limit_s: float) -> Row:
    try:
        said = run_apart("scripts.family_sweep", name, limit_s)
    except BrokenPart as why:
        return Row(name, family(name).most_pictures, broken=str(why))
    return Row.of_json(said)


def run_one(name: str) -> int:
    from scripts.family_sweep.one import sweep

    tell(sweep(name).as_json())
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

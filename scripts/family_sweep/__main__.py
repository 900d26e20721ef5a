"""`scripts/families`: every family in a process of its own, what was found as a table."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path

from scripts.checkpoints.families import SWEPT, family
from scripts.family_sweep.row import Row
from scripts.family_sweep.table import DOCUMENT, with_tables

LIMIT_S = 600
MARK = "found: "
"""Before the line that a family's process ends with: mlx-vlm's processors write lines of theirs."""


def main(argv: Sequence[str]) -> int:
    options = parse_arguments(argv)
    if options.one is not None:
        return run_one(options.one)
    rows = []
    for name in options.only or SWEPT:
        row = run_apart(name, options.limit)
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
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write what was found there")
    parser.add_argument(
        "--write", action="store_true", help="write the tables of docs/models.md (all families)"
    )
    parser.add_argument("--one", choices=SWEPT, help=argparse.SUPPRESS)
    return parser.parse_args(argv)


def run_apart(name: str, limit_s: float) -> Row:
    """Find out about a family in a process of its own: whatever becomes of it, the others go on."""
    row = Row(name, family(name).most_pictures)
    command = [sys.executable, "-m", "scripts.family_sweep", "--one", name]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=limit_s, check=False)
    except subprocess.TimeoutExpired:
        row.broken = f"not done within {limit_s:.0f} s"
        return row
    found = [line for line in done.stdout.splitlines() if line.startswith(MARK)]
    if done.returncode or not found:
        last = (done.stderr.strip().splitlines() or ["nothing was said"])[-1]
        row.broken = f"its process ended with code {done.returncode}: {last}"
        return row
    known = {one.name for one in fields(Row)}
    said = json.loads(found[-1].removeprefix(MARK))
    return Row(**{key: value for key, value in said.items() if key in known})


def run_one(name: str) -> int:
    from scripts.family_sweep.one import sweep

    print(f"\n{MARK}{json.dumps(sweep(name).as_json())}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

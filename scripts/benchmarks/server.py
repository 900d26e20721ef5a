"""The whole system against other servers with an OpenAI URL, on the same checkpoint.

Only one server runs at a time. Each round starts every server, puts the same load on it and stops
it; every other round goes the other way round, so that a machine that gets slower by and by is
slower for all. The checkpoint is a copy that never ends an answer by itself (`endless_copy`); each
request has a number in its text and a picture of its own, so that nobody answers from a cache.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import httpx

from scripts.benchmarks.load import loops
from scripts.benchmarks.load.loops import Outcome
from scripts.benchmarks.load.target import CASES, Case, Target, pictures, target
from scripts.benchmarks.report import (
    ProgressBar,
    Report,
    Row,
    alternated,
    median,
    medians,
    percentile,
)
from scripts.benchmarks.servers.processes import DEMO_MODEL, NOTHING, Server, cpu_spent
from scripts.benchmarks.servers.rivals import KNOWN, READY, Side, our_blas, ours, rival
from scripts.checkpoints.endless import endless_copy

DESCRIPTION = "The whole system against other servers on the same checkpoint, in turns."

WARM_UP_S = 1.0
WANTED = {1: 1.0}
WANTED_AT_MORE = 2.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--rival",
        action="append",
        default=[],
        metavar="NAME[=COMMAND]",
        help="starts it; {model} and {port} are filled in. Without a command: " + ", ".join(KNOWN),
    )
    parser.add_argument("--rival-ready", default=READY, help="answers 200 when a rival serves")
    parser.add_argument(
        "--lend-blas",
        action="store_true",
        help="start rivals with the OpenBLAS that our worker loads, not as they were installed: "
        "what is left then is not the library's",
    )
    parser.add_argument("--model-path", type=Path, default=DEMO_MODEL, help="a local checkpoint")
    parser.add_argument("--seconds", type=float, default=3.0, help="of each run of load")
    parser.add_argument("--rounds", type=int, default=2, help="turns each server gets")
    parser.add_argument("--connections", type=int, nargs="+", help="at once", default=[1, 8, 32])
    names = [case.name for case in CASES]
    parser.add_argument("--cases", nargs="+", default=names, choices=names, help="of load")


class Cell(NamedTuple):
    """One kind of load."""

    case: Case
    connections: int


@dataclass
class Figures:
    """Everything measured: a row for each turn, by kind of load and server."""

    turns: dict[Cell, dict[str, list[Row]]] = field(
        default_factory=lambda: defaultdict(lambda: defaultdict(list))
    )
    processes: list[Row] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def run(options: argparse.Namespace) -> Report:
    lent = our_blas() if options.lend_blas else NOTHING
    sides = [ours(), *(rival(asked, options.rival_ready, lent) for asked in options.rival)]
    cases = [case for case in CASES if case.name in options.cases]
    cells = [Cell(case, connections) for case in cases for connections in options.connections]
    progress = ProgressBar(options.rounds * len(sides) * len(cells))
    figures = Figures()
    pictures()  # drawn before anything is timed
    with endless_copy(options.model_path) as model:
        for number in range(options.rounds):
            for side in alternated(sides, number):
                _one_turn(side, model, cells, options.seconds, figures, progress)
    progress.end()
    report = reported(figures, [side.name for side in sides])
    if sys.platform == "linux":
        whose = "the OpenBLAS that our worker loads" if lent else "the BLAS they come with"
        report.notes.append(f"Rivals run with {whose}; all weights are float32.")
    return report


def _one_turn(
    side: Side,
    model: Path,
    cells: Sequence[Cell],
    seconds: float,
    figures: Figures,
    progress: ProgressBar,
) -> None:
    with contextlib.ExitStack() as stack:
        try:
            running = stack.enter_context(side.start(model))
        except (OSError, RuntimeError) as error:
            figures.notes.append(f"{side.name} did not start: {error}")
            return
        fresh = {name: tier.resident_bytes() for name, tier in running.tiers.items()}
        for cell in cells:
            progress.step(f"{side.name}: {cell.case.name}, {cell.connections} connections")
            figures.turns[cell][side.name].append(measure(running, cell, seconds))
        for name, tier in running.tiers.items():
            figures.processes.append(
                {
                    "server": side.name,
                    "process": name,
                    "seconds to ready": running.ready_s,
                    "MB at the start": fresh[name] / 1e6,
                    "MB after the load": tier.resident_bytes() / 1e6,
                }
            )


def measure(running: Server, cell: Cell, seconds: float) -> Row:
    asked = target(cell.case, running.url, running.model)
    loops.run(loops.closed_loop(asked, cell.connections, WARM_UP_S))
    tokens = answered_tokens(asked)
    with cpu_spent(running) as cpu_s:
        load = loops.run(loops.closed_loop(asked, cell.connections, seconds))
    return turn_row(load, tokens, cpu_s, cell.case.stream)


def answered_tokens(asked: Target) -> int:
    """Ask once, not streamed, and return how many tokens the answer says it has; 0 when there is
    no such answer."""
    body = json.loads(asked.body_of(0)) | {"stream": False}
    try:
        usage = httpx.post(asked.url, json=body, timeout=120, trust_env=False).json()["usage"]
    except (httpx.TransportError, ValueError, KeyError):
        return 0
    return int(usage.get("completion_tokens", usage.get("output_tokens", 0)))


def turn_row(load: Outcome, tokens: int, cpu_s: Mapping[str, float], stream: bool) -> Row:
    """What one server did with one kind of load in one round; `cpu_s` by process."""
    answered = max(1, load.answered)
    cpu_ms = 1e3 * sum(cpu_s.values()) / answered
    waits = {"first token ": load.first_s, "gap ": load.gaps_s} if stream else {}
    row: Row = {
        "tokens": float(tokens),
        "requests/s": load.per_second,
        "tokens/s": load.per_second * tokens,
    }
    for label in ("", "first token ", "gap "):
        values = waits.get(label, [] if label else load.latencies_s)
        row[f"{label}p50 ms"] = percentile(values, 0.5) * 1e3 if values else None
        row[f"{label}p99 ms"] = percentile(values, 0.99) * 1e3 if values else None
    return {
        **row,
        "errors": load.errors,
        "CPU ms/request": cpu_ms,
        "CPU us/token": cpu_ms * 1e3 / max(1, tokens),
        "by process": {name: 1e3 * spent / answered for name, spent in cpu_s.items()},
        "client's share of a core": load.client_share,
    }


# --- what is told ------------------------------------------------------------------------------


def reported(figures: Figures, names: Sequence[str]) -> Report:
    report = Report("server", notes=figures.notes)
    if len(names) > 1:
        report.tables["Ours against the best rival"] = list(ratio_rows(figures, names))
    report.tables["Each server"] = [
        {"case": cell.case.name, "connections": cell.connections, "server": name, **medians(turns)}
        for cell, by_name in figures.turns.items()
        for name in names
        if (turns := by_name[name])
    ]
    report.tables["Processes"] = figures.processes
    return report


def ratio_rows(figures: Figures, names: Sequence[str]) -> Iterator[Row]:
    mine, *others = names
    for cell, turns in figures.turns.items():
        rates = {name: rate(turns[name]) for name in others if turns[name]}
        if not turns[mine] or not rates:
            continue
        best = max(rates, key=lambda name: rates[name])
        pairs = list(zip(turns[mine], turns[best], strict=False))
        yield {
            "case": cell.case.name,
            "connections": cell.connections,
            "ours requests/s": rate(turns[mine]),
            "best rival": best,
            "its requests/s": rates[best],
            "ratio": median(ratio(m, t, "requests/s") for m, t in pairs),
            "wanted": WANTED.get(cell.connections, WANTED_AT_MORE),
            "CPU a request, its / ours": median(ratio(t, m, "CPU ms/request") for m, t in pairs),
        }


def rate(turns: Sequence[Row]) -> float:
    return median(turn["requests/s"] for turn in turns)


def ratio(of: Row, to: Row, figure: str) -> float:
    return float(of[figure] / max(to[figure], 1e-9))

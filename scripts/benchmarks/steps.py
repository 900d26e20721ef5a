"""Whether an engine that decodes for hours takes more and more memory.

A model of many narrow layers takes many steps in a short time; rows that are done are replaced, so
that joining and leaving are in it. What grows with each step would show beyond keys and values.
"""

from __future__ import annotations

import argparse
import itertools
import tempfile
from pathlib import Path

import psutil

from scripts.benchmarks.in_process.engines import Ours, Request, ask, user
from scripts.benchmarks.load.target import question
from scripts.benchmarks.report import ProgressBar, Report, Row
from scripts.checkpoints.building import build
from shared.messages import Delta, Done, Failed

DESCRIPTION = "Whether an engine that decodes for hours takes more and more memory."

WANTED_MB = 20.0
MB = 1e6


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--family", default="qwen2_vl", help="of the model, made with random weights"
    )
    parser.add_argument("--steps", type=int, default=20_000, help="of the batch, all rows in each")
    parser.add_argument("--layers", type=int, default=28, help="of the model")
    parser.add_argument("--width", type=int, default=64, help="of its layers")
    parser.add_argument("--rows", type=int, default=4, help="that decode together")
    parser.add_argument("--answer", type=int, default=500, help="tokens before a row is replaced")


def run(options: argparse.Namespace) -> Report:
    import mlx.core as mx  # after the engine has loaded its BLAS

    process = psutil.Process()
    report = Report("steps")
    with tempfile.TemporaryDirectory() as folder:
        path = build(options.family, Path(folder), width=options.width, layers=options.layers)
        ours = Ours(str(path), prefix_cache_bytes=0)
        decoding = Decoding(ours, options.rows, options.answer)
        curve: list[Row] = []
        every = max(1, options.steps // 20)
        progress = ProgressBar(options.steps // every)
        while decoding.steps < options.steps:
            decoding.go_on(every)
            progress.step(f"{decoding.steps} steps")
            resident, computed = process.memory_info().rss / MB, mx.get_active_memory() / MB
            curve.append(
                {
                    "steps": decoding.steps,
                    "resident_mb": resident,
                    "weights_keys_values_mb": computed,
                    "beyond_mb": resident - computed,
                }
            )
    progress.end()
    report.tables["Resident memory"] = curve
    report.tables["Beyond weights, keys and values"] = [summary(curve)]
    return report


def summary(curve: list[Row]) -> Row:
    """What has come and gone since the first points, at which everything is there."""
    settled = curve[len(curve) // 10 :]
    beyond = [row["beyond_mb"] for row in settled]
    return {
        "steps": curve[-1]["steps"],
        "grown_mb": beyond[-1] - beyond[0],
        "highest_less_lowest_mb": max(beyond) - min(beyond),
        "wanted_at_most_mb": WANTED_MB,
    }


class Decoding:
    """Rows that are replaced when they are done.

    Attributes:
        steps: how many have brought tokens.
    """

    def __init__(self, ours: Ours, rows: int, tokens: int) -> None:
        self.steps = 0
        self._ours = ours
        self._tokens = tokens
        self._numbers = itertools.count()
        for row in range(rows):
            # Not all at once: they leave one by one.
            self._enter(1 + tokens * row // rows)

    def _enter(self, tokens: int) -> None:
        number = next(self._numbers)
        request: Request = ask(str(number), [user(question(number))], tokens=tokens)
        self._ours.engine.submit(request.job, request.images)

    def go_on(self, steps: int) -> None:
        """For so many steps more."""
        until = self.steps + steps
        while self.steps < until:
            events = self._ours.turn()
            self.steps += any(isinstance(event, Delta) for event in events)
            for event in events:
                assert not isinstance(event, Failed), event
                if isinstance(event, Done):
                    self._enter(self._tokens)

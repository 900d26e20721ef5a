"""The whole system against `BatchGenerator` driven directly in one process, wave by wave.

A wave is so many streams that begin together, with new prompts, the same for all sides; it lasts
until the last token has come. Sides take turns, one at a time. Our engine driven directly in one
process is the third side: what is lost between it and the whole system is the tiers' share.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import random
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import uvloop

from scripts.benchmarks.cases import Case, question, target
from scripts.benchmarks.client import Answer, Client
from scripts.benchmarks.in_process import Order
from scripts.benchmarks.load import Target
from scripts.benchmarks.report import Progress, Report, Row, median, percentile
from scripts.benchmarks.rivals import Running, ours
from scripts.benchmarks.tiers import ROOT
from scripts.checkpoints.endless import endless_copy

DESCRIPTION = "The whole system against BatchGenerator driven directly in one process, in turns."

DEMO_MODEL = ROOT / "worker" / "demo_model"
WANTED = {1: 0.85, 32: 0.9}
GENERATOR, ENGINE, SYSTEM = "generator", "engine", "system"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model-path", type=Path, default=DEMO_MODEL, help="a local checkpoint")
    parser.add_argument("--rounds", type=int, default=7, help="after one that warms up")
    parser.add_argument("--streams", type=int, nargs="+", default=[1, 8, 32])
    parser.add_argument("--tokens", type=int, nargs="+", default=[64, 256], help="of each stream")


@dataclass(frozen=True)
class Wave:
    """What one wave took. `cpu_s` by process."""

    seconds: float
    cpu_s: dict[str, float]
    first_s: list[float] = field(default_factory=list)
    gaps_s: list[float] = field(default_factory=list)
    errors: int = 0


class InProcess:
    """The process of `in_process.py`."""

    def __init__(self, model: Path) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "scripts.benchmarks.in_process", str(model)],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._read()

    def wave(self, side: str, texts: list[str], tokens: int) -> Wave:
        assert self._process.stdin is not None
        print(json.dumps(asdict(Order(side, texts, tokens))), file=self._process.stdin, flush=True)
        read = self._read()
        return Wave(read["seconds"], {side: read["cpu_s"]})

    def stop(self) -> None:
        self._process.kill()
        self._process.wait()

    def _read(self) -> dict[str, float]:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.startswith("{"):
                return dict(json.loads(line))
        raise RuntimeError("the process that drives BatchGenerator has ended; see above")


def run(options: argparse.Namespace) -> Report:
    progress = Progress(len(options.streams) * len(options.tokens))
    rows = []
    with contextlib.ExitStack() as stack:
        model = stack.enter_context(endless_copy(options.model_path))
        running = stack.enter_context(ours().start(model))
        direct = InProcess(model)
        stack.callback(direct.stop)
        for tokens in options.tokens:
            for streams in options.streams:
                progress.step(f"{streams} streams of {tokens} tokens")
                turns = list(_turns(running, direct, streams, tokens, options.rounds))
                rows.append(row(streams, tokens, turns))
    progress.end()
    return Report("system", {"Tokens a second, streams that begin together": rows})


Turn = dict[str, Wave]


def _turns(
    running: Running, direct: InProcess, streams: int, tokens: int, rounds: int
) -> Iterator[Turn]:
    """The first one warms up and is not handed out."""
    sides = [GENERATOR, ENGINE, SYSTEM]
    asked = target(Case("", tokens, stream=True), running.url, None)
    for number in range(rounds + 1):
        first = random.randrange(10**8, 10**9)  # nine digits: prompts of one length
        texts = [question(first + place) for place in range(streams)]
        turn: Turn = {}
        for side in sides[:: 1 if number % 2 else -1]:
            if side == SYSTEM:
                turn[side] = system_wave(running, asked, streams, first)
            else:
                turn[side] = direct.wave(side, texts, tokens)
        if number:
            yield turn


def system_wave(running: Running, asked: Target, streams: int, first: int) -> Wave:
    before = {tier.name: tier.cpu_s() for tier in running.tiers}
    began = time.perf_counter()
    answers = uvloop.run(_ask(asked, streams, first))
    seconds = max(answer.ended_at for answer in answers) - began
    return Wave(
        seconds,
        {tier.name: tier.cpu_s() - before[tier.name] for tier in running.tiers},
        [answer.first_at - began for answer in answers],
        [gap for answer in answers for gap in answer.gaps_s],
        sum(not answer.good for answer in answers),
    )


async def _ask(asked: Target, streams: int, first: int) -> Sequence[Answer]:
    client = Client(asked, first)
    answers = await asyncio.gather(*(client.ask() for _ in range(streams)))
    client.close()
    return answers


def row(streams: int, tokens: int, turns: Sequence[Turn]) -> Row:
    made = streams * tokens

    def rate(side: str) -> float:
        return median(made / turn[side].seconds for turn in turns)

    def ratio(of: str, to: str) -> float:
        return median(turn[to].seconds / turn[of].seconds for turn in turns)

    def cpu_us(side: str, process: str) -> float:
        return median(1e6 * turn[side].cpu_s[process] / made for turn in turns)

    waves = [turn[SYSTEM] for turn in turns]
    return {
        "streams": streams,
        "tokens": tokens,
        "BatchGenerator": rate(GENERATOR),
        "engine alone": rate(ENGINE),
        "whole system": rate(SYSTEM),
        "engine / BatchGenerator": ratio(ENGINE, GENERATOR),
        "system / engine": ratio(SYSTEM, ENGINE),
        "system / BatchGenerator": ratio(SYSTEM, GENERATOR),
        "wanted": WANTED.get(streams),
        "CPU us/token: BatchGenerator": cpu_us(GENERATOR, GENERATOR),
        "engine": cpu_us(ENGINE, ENGINE),
        "worker": cpu_us(SYSTEM, "worker"),
        "gateway": cpu_us(SYSTEM, "gateway"),
        "first token p50 ms": 1e3 * percentile([x for w in waves for x in w.first_s], 0.5),
        "gap p50 ms": 1e3 * percentile([x for w in waves for x in w.gaps_s], 0.5),
        "gap p99 ms": 1e3 * percentile([x for w in waves for x in w.gaps_s], 0.99),
        "errors": sum(wave.errors for wave in waves),
    }

"""The whole system against `BatchGenerator` driven directly in one process, wave by wave.

A wave is so many streams that begin together, with new prompts, the same for all sides; it lasts
until the last token has come. Sides take turns, one at a time. Our engine driven directly in one
process is the third side: what is lost between it and the whole system is the tiers' share.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import random
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import uvloop

from scripts.benchmarks.in_process.child import ENGINE, GENERATOR, InProcess, Order
from scripts.benchmarks.load.client import AnswerTimes, Client
from scripts.benchmarks.load.target import Case, Target, question, target
from scripts.benchmarks.report import ProgressBar, Report, Row, alternated, medians, percentile
from scripts.benchmarks.servers.processes import DEMO_MODEL, Server, cpu_spent
from scripts.benchmarks.servers.rivals import ours
from scripts.checkpoints.endless import endless_copy

DESCRIPTION = "The whole system against BatchGenerator driven directly in one process, in turns."

WANTED = {1: 0.85, 32: 0.9}
SYSTEM = "system"
SIDES = (SYSTEM, ENGINE, GENERATOR)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model-path", type=Path, default=DEMO_MODEL, help="a local checkpoint")
    parser.add_argument("--rounds", type=int, default=7, help="after one that warms up")
    parser.add_argument("--streams", type=int, nargs="+", default=[1, 8, 32], help="at once")
    parser.add_argument("--tokens", type=int, nargs="+", default=[64, 256], help="of each stream")


@dataclass(frozen=True)
class Wave:
    """What one wave took. `cpu_s` by process."""

    seconds: float
    cpu_s: dict[str, float]
    first_s: list[float] = field(default_factory=list)
    gaps_s: list[float] = field(default_factory=list)
    errors: int = 0


def run(options: argparse.Namespace) -> Report:
    progress = ProgressBar(len(options.streams) * len(options.tokens))
    rows = []
    with contextlib.ExitStack() as stack:
        model = stack.enter_context(endless_copy(options.model_path))
        running = stack.enter_context(ours().start(model))
        direct = stack.enter_context(InProcess(model))
        for tokens in options.tokens:
            for streams in options.streams:
                progress.step(f"{streams} streams of {tokens} tokens")
                turns = list(_turns(running, direct, streams, tokens, options.rounds))
                rows.append(row(streams, tokens, turns))
    progress.end()
    return Report("system", {"Tokens a second, streams that begin together": rows})


Turn = dict[str, Wave]


def _turns(
    running: Server, direct: InProcess, streams: int, tokens: int, rounds: int
) -> Iterator[Turn]:
    """The first one warms up and is not handed out."""
    asked = target(Case("", tokens, stream=True), running.url, None)
    for number in range(rounds + 1):
        first = random.randrange(10**8, 10**9)  # nine digits: prompts of one length
        texts = [question(first + place) for place in range(streams)]
        turn: Turn = {}
        for side in alternated(SIDES, number):
            if side == SYSTEM:
                turn[side] = system_wave(running, asked, streams, first)
            else:
                took = direct.wave(Order(side, texts, tokens))
                turn[side] = Wave(took.wall_s, {side: took.cpu_s})
        if number:
            yield turn


def system_wave(running: Server, asked: Target, streams: int, first: int) -> Wave:
    with cpu_spent(running) as cpu_s:
        began = time.perf_counter()
        answers = uvloop.run(_ask(asked, streams, first))
    return Wave(
        max(answer.ended_at for answer in answers) - began,
        cpu_s,
        [answer.first_at - began for answer in answers],
        [gap for answer in answers for gap in answer.gaps_s],
        sum(not answer.good for answer in answers),
    )


async def _ask(asked: Target, streams: int, first: int) -> Sequence[AnswerTimes]:
    client = Client(asked, first)
    answers = await asyncio.gather(*(client.ask() for _ in range(streams)))
    client.close()
    return answers


def row(streams: int, tokens: int, turns: Sequence[Turn]) -> Row:
    measured = medians([figures(streams * tokens, turn) for turn in turns])
    return {"streams": streams, "tokens": tokens, **measured, "wanted": WANTED.get(streams)}


def figures(made: int, turn: Turn) -> Row:
    """Of one turn, in which each side has made so many tokens."""
    system, engine, generator = (turn[side] for side in SIDES)
    return {
        "BatchGenerator": made / generator.seconds,
        "engine alone": made / engine.seconds,
        "whole system": made / system.seconds,
        "engine / BatchGenerator": generator.seconds / engine.seconds,
        "system / engine": engine.seconds / system.seconds,
        "system / BatchGenerator": generator.seconds / system.seconds,
        "CPU us/token: BatchGenerator": 1e6 * generator.cpu_s[GENERATOR] / made,
        "engine": 1e6 * engine.cpu_s[ENGINE] / made,
        "worker": 1e6 * system.cpu_s["worker"] / made,
        "gateway": 1e6 * system.cpu_s["gateway"] / made,
        "first token p50 ms": 1e3 * percentile(system.first_s, 0.5),
        "gap p50 ms": 1e3 * percentile(system.gaps_s, 0.5),
        "gap p99 ms": 1e3 * percentile(system.gaps_s, 0.99),
        "errors": system.errors,
    }

"""The gateway (and the link to its worker) against the bare framework.

The worker plays scripts: its tokens are there at once, so what is measured is what the two tiers
add to any model. The baseline is `bare.py`, which sends the very bytes that the gateway sends.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx

from scripts.benchmarks import strain
from scripts.benchmarks.load import loops, wrk
from scripts.benchmarks.load.loops import Outcome
from scripts.benchmarks.load.target import PATH, Target
from scripts.benchmarks.report import ProgressBar, Report, Row, medians, percentile
from scripts.benchmarks.servers.bare import split_events
from scripts.benchmarks.servers.processes import Server, cpu_spent, free_port, serving, started
from scripts.benchmarks.strain import scripted

DESCRIPTION = "The gateway with a scripted engine against a bare FastAPI route, in turns."

STREAM_TOKENS = 64
STREAM_CONNECTIONS = 32
SLOTS = "160"
WARM_UP_S = 1.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--seconds", type=float, default=4.0, help="of each run of load")
    parser.add_argument("--rounds", type=int, default=3, help="turns each side gets")
    parser.add_argument(
        "--connections", type=int, nargs="+", help="at once", default=[1, 8, 32, 128]
    )
    parser.add_argument("--rate", type=float, default=200.0, help="of the open loop, requests/s")
    parser.add_argument("--stream-rate", type=float, default=50.0, help="the same for streams")
    parser.add_argument("--cancels", type=int, default=10_000, help="clients that hang up")


@dataclass(frozen=True)
class Rival:
    """Both sides of the comparison, up and running."""

    ours: Server
    bare: Server
    events: int
    engine_s: float


WHOLE = scripted(stream=False, tokens=8, burst=8)
STREAMED = scripted(stream=True, tokens=STREAM_TOKENS)


def run(options: argparse.Namespace) -> Report:
    report = Report("gateway")
    progress = ProgressBar(len(options.connections) + 6)
    with both() as rival:
        whole: list[Row] = []
        for connections in options.connections:
            progress.step(f"whole answers, {connections} connections")
            turns = [*take_turns(rival, WHOLE, 0, connections, options)]
            whole.append({"connections": connections, **medians([*map(whole_row, turns)])})
            if connections == 1:
                latency = medians([latency_row(turn, rival) for turn in turns])
                report.tables["Added latency, 1 connection"] = [latency]
        report.tables["Whole answers"] = whole
        progress.step(f"streams, {STREAM_CONNECTIONS} connections")
        turns = [*take_turns(rival, STREAMED, rival.events, STREAM_CONNECTIONS, options)]
        streams = medians([stream_row(turn, rival.events) for turn in turns])
        report.tables["Streams"] = [
            {"connections": STREAM_CONNECTIONS, "events a stream": rival.events, **streams}
        ]
        report.tables["Open loop"] = list(open_rows(rival, options, progress))
        report.tables["Resident memory"] = [memory_row(rival)]
    progress.step("refusals")
    report.tables["Refusals, a full queue"] = list(strain.refusal_rows(options.seconds))
    progress.step(f"{options.cancels} clients that hang up")
    report.tables["Clients that hang up"] = [strain.cancel_row(options.cancels)]
    progress.step("/health beside large requests")
    report.tables["/health beside large requests"] = list(strain.health_rows(options.seconds))
    progress.end()
    return report


@contextlib.contextmanager
def both() -> Iterator[Rival]:
    """The gateway with a scripted worker, and the bare server with answers of theirs."""
    gateway_flags = ["--log-level", "info", "--queue-size", "256"]
    worker_flags = ["--engine", "scripted", "--max-concurrency", SLOTS, "--max-streams", SLOTS]
    with contextlib.ExitStack() as stack:
        ours = stack.enter_context(serving(gateway_flags, worker_flags))
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        answers = {"whole": _answer(ours, WHOLE), "streamed": _answer(ours, STREAMED)}
        for name, answer in answers.items():
            (folder / name).write_bytes(answer)
        port = free_port()
        command = [sys.executable, "-m", "scripts.benchmarks.servers.bare", str(port)]
        command += [str(folder / name) for name in answers]
        bare = stack.enter_context(started("bare", command, port, "/ready"))
        engine_s = json.loads(answers["whole"])["timings"]["total_s"]
        yield Rival(ours, bare, len(split_events(answers["streamed"])), engine_s)


def _answer(server: Server, body: str) -> bytes:
    headers = {"Content-Type": "application/json"}
    url = server.url + PATH
    return httpx.post(url, content=body, headers=headers, timeout=30, trust_env=False).content


@dataclass(frozen=True)
class Turn:
    """One round: what each side did, and the CPU seconds that each process spent on an answer."""

    bare: Outcome
    ours: Outcome
    cpu_s: dict[str, float]

    def ratios(self) -> Row:
        """`CPU ratio`: what an answer costs the bare server by what it costs the gateway, which is
        the ratio of their rates where the worker and the load have cores of their own."""
        return {
            "ratio": self.ours.per_second / self.bare.per_second,
            "CPU ratio": self.cpu_s["bare"] / self.cpu_s["gateway"],
        }


def take_turns(
    rival: Rival, body: str, events: int, connections: int, options: argparse.Namespace
) -> Iterator[Turn]:
    """Both sides in turns, after each has warmed up."""
    bare, ours = (Target(side.url + PATH, body, events) for side in (rival.bare, rival.ours))
    for target in (bare, ours):
        wrk.run(target, connections, WARM_UP_S)
    for _ in range(options.rounds):
        with cpu_spent(rival.bare, rival.ours) as cpu_s:
            theirs = wrk.run(bare, connections, options.seconds)
            mine = wrk.run(ours, connections, options.seconds)
        answered = {"bare": theirs.answered}
        each = {name: spent / answered.get(name, mine.answered) for name, spent in cpu_s.items()}
        yield Turn(theirs, mine, each)


def whole_row(turn: Turn) -> Row:
    return {
        "bare requests/s": turn.bare.per_second,
        "gateway requests/s": turn.ours.per_second,
        **turn.ratios(),
        "p50 ms": turn.ours.p50_s * 1e3,
        "p99 ms": turn.ours.p99_s * 1e3,
        "errors": turn.ours.errors,
        **{f"{name} CPU ms/request": 1e3 * spent for name, spent in turn.cpu_s.items()},
    }


def stream_row(turn: Turn, events: int) -> Row:
    return {
        "bare events/s": events * turn.bare.per_second,
        "gateway events/s": events * turn.ours.per_second,
        **turn.ratios(),
        "errors": turn.ours.errors,
        "bare CPU us/event": 1e6 * turn.cpu_s["bare"] / events,
        "gateway CPU us/token": 1e6 * turn.cpu_s["gateway"] / STREAM_TOKENS,
        "worker CPU us/token": 1e6 * turn.cpu_s["worker"] / STREAM_TOKENS,
    }


def latency_row(turn: Turn, rival: Rival) -> Row:
    """`added` is everything that both tiers and the wire between them add to the bare route; only
    what the engine says of itself is taken off."""
    return {
        "bare p50 ms": turn.bare.p50_s * 1e3,
        "gateway p50 ms": turn.ours.p50_s * 1e3,
        "engine's own ms": rival.engine_s * 1e3,
        "added ms": (turn.ours.p50_s - turn.bare.p50_s - rival.engine_s) * 1e3,
    }


def open_rows(rival: Rival, options: argparse.Namespace, progress: ProgressBar) -> Iterator[Row]:
    cases = (("whole", WHOLE, 0, options.rate), ("stream", STREAMED, 1, options.stream_rate))
    for kind, body, events, rate in cases:
        progress.step(f"open loop, {kind}, {rate:g} requests/s")
        target = Target(rival.ours.url + PATH, body, events)
        outcome = loops.run(loops.open_loop(target, rate, options.seconds))
        gaps = outcome.gaps_s
        yield {
            "answers": kind,
            "requests/s": rate,
            "p50 ms": outcome.p50_s * 1e3,
            "p99 ms": outcome.p99_s * 1e3,
            "first byte p50 ms": percentile(outcome.first_s, 0.5) * 1e3,
            "first byte p99 ms": percentile(outcome.first_s, 0.99) * 1e3,
            "between tokens p50 ms": percentile(gaps, 0.5) * 1e3 if gaps else None,
            "between tokens p99 ms": percentile(gaps, 0.99) * 1e3 if gaps else None,
            "errors": outcome.errors,
        }


def memory_row(rival: Rival) -> Row:
    tiers = {**rival.bare.tiers, **rival.ours.tiers}
    return {f"{name} MB": tier.resident_bytes() / 1e6 for name, tier in tiers.items()}

"""Load from this process: an open loop and a closed one, and what comes of them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine, Iterable
from dataclasses import dataclass, field

import uvloop

from scripts.benchmarks.load.client import AnswerTimes, Client
from scripts.benchmarks.load.target import Target
from scripts.benchmarks.report import percentile

ANSWER_TIMEOUT_S = 60.0
"""How long answers may take after the last request; those missing then are errors."""

AFTER_ERROR_S = 0.1


@dataclass
class Outcome:
    """What came of a load. Times in seconds; `per_second` are good answers.

    Attributes:
        answered: good answers, within the time or not: what the CPU seconds were spent on.
        first_s: until the first text of an answer; empty where the client cannot see it (wrk).
        gaps_s: between the texts of each stream; the same.
        client_share: of one core, taken by this client.
    """

    seconds: float = 0.0
    answered: int = 0
    per_second: float = 0.0
    errors: int = 0
    p50_s: float = 0.0
    p99_s: float = 0.0
    latencies_s: list[float] = field(default_factory=list)
    first_s: list[float] = field(default_factory=list)
    gaps_s: list[float] = field(default_factory=list)
    client_share: float = 0.0

    def take(self, answer: AnswerTimes, due_at: float) -> None:
        """Count the answer to a request that was due then."""
        if not answer.good:
            self.errors += 1
            return
        self.answered += 1
        self.latencies_s.append(answer.ended_at - due_at)
        self.first_s.append(answer.first_at - due_at)
        self.gaps_s.extend(answer.gaps_s)

    async def end(self, tasks: Iterable[asyncio.Task[None]], timeout_s: float) -> None:
        """Wait for all answers and sum up."""
        ended, late = await asyncio.wait(tasks, timeout=timeout_s)
        for task in ended:
            task.result()
        for task in late:
            task.cancel()
            self.errors += 1
        self.p50_s = percentile(self.latencies_s, 0.5)
        self.p99_s = percentile(self.latencies_s, 0.99)


def run(load: Coroutine[None, None, Outcome]) -> Outcome:
    return uvloop.run(load)


async def open_loop(target: Target, per_second: float, seconds: float) -> Outcome:
    """Evenly spaced requests for so long, whether or not the earlier ones have been answered.

    So a server that falls behind shows it: latency counts from the moment a request was due, not
    from when the client got round to it.
    """
    client, outcome = Client(target), Outcome(seconds)
    started = time.perf_counter()

    async def ask(due_at: float) -> None:
        outcome.take(await client.ask(), due_at)

    tasks = []
    for number in range(round(per_second * seconds)):
        due_at = started + number / per_second
        await asyncio.sleep(max(0.0, due_at - time.perf_counter()))
        tasks.append(asyncio.create_task(ask(due_at)))
    await outcome.end(tasks, ANSWER_TIMEOUT_S)
    client.close()
    outcome.per_second = outcome.answered / seconds
    return outcome


async def closed_loop(
    target: Target, connections: int, seconds: float, after_error_s: float = AFTER_ERROR_S
) -> Outcome:
    """So many connections for so long, each asking again as soon as it has been answered.

    For servers whose answers take long. wrk counts answers that end within its time and drops the
    others: with 32 connections and answers of three seconds that is an error of half, and the
    dropped ones still run when the next measurement begins. Here every answer is awaited, and
    counts with the share of it that lay in the time.
    """
    client, outcome = Client(target), Outcome(seconds)
    cpu_s, began = time.process_time(), time.perf_counter()
    until = began + seconds

    async def keep_asking() -> None:
        while (asked_at := time.perf_counter()) < until:
            answer = await client.ask()
            outcome.take(answer, asked_at)
            if answer.good:
                outcome.per_second += share(asked_at, answer.ended_at, until) / seconds
            else:
                await asyncio.sleep(after_error_s)

    tasks = [asyncio.create_task(keep_asking()) for _ in range(connections)]
    await outcome.end(tasks, seconds + ANSWER_TIMEOUT_S)
    client.close()
    outcome.client_share = (time.process_time() - cpu_s) / (time.perf_counter() - began)
    return outcome


def share(began: float, ended: float, until: float) -> float:
    """How much of an answer lay before `until`, 0 to 1."""
    return min(1.0, (until - began) / max(ended - began, 1e-9))

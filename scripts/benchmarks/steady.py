"""Closed loop in a window of time, for servers whose answers take long.

wrk counts answers that end within its time and drops the others: with 32 connections and answers
of three seconds that is an error of half, and the dropped ones still run when the next measurement
begins. Here every answer is awaited, and counts with the share of it that lay in the window.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field

import uvloop

from scripts.benchmarks.client import Client
from scripts.benchmarks.load import Target

PATIENCE_S = 60.0
"""How long answers may take after the window; those missing then are errors."""

AFTER_ERROR_S = 0.1


@dataclass
class Steady:
    """What came of it. Times in seconds; `per_second` are answers.

    Attributes:
        answered: good answers, within the window or not: what the CPU seconds were spent on.
        client_share: of one core, taken by this client.
    """

    per_second: float = 0.0
    answered: int = 0
    errors: int = 0
    latencies_s: list[float] = field(default_factory=list)
    first_s: list[float] = field(default_factory=list)
    gaps_s: list[float] = field(default_factory=list)
    client_share: float = 0.0


def run(target: Target, connections: int, seconds: float) -> Steady:
    return uvloop.run(load(target, connections, seconds))


async def load(target: Target, connections: int, seconds: float) -> Steady:
    client, steady = Client(target), Steady()
    cpu_s, began = time.process_time(), time.perf_counter()

    async def keep_asking() -> None:
        while (asked_at := time.perf_counter()) < began + seconds:
            answer = await client.ask()
            if not answer.good:
                steady.errors += 1
                await asyncio.sleep(AFTER_ERROR_S)
                continue
            steady.answered += 1
            steady.per_second += share(asked_at, answer.ended_at, began + seconds) / seconds
            steady.latencies_s.append(answer.ended_at - asked_at)
            steady.first_s.append(answer.first_at - asked_at)
            steady.gaps_s.extend(answer.gaps_s)

    tasks = [asyncio.create_task(keep_asking()) for _ in range(connections)]
    ended, late = await asyncio.wait(tasks, timeout=seconds + PATIENCE_S)
    for task in ended:
        task.result()
    for task in late:
        task.cancel()
        steady.errors += 1
    client.close()
    steady.client_share = (time.process_time() - cpu_s) / (time.perf_counter() - began)
    return steady


def share(began: float, ended: float, until: float) -> float:
    """How much of an answer lay before `until`, 0 to 1."""
    return min(1.0, (until - began) / max(ended - began, 1e-9))

"""Open loop: requests come at a given rate, whether or not the earlier ones have been answered.

So a server that falls behind shows it: latency counts from the moment a request was due, not
from when the client got round to it.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field

from scripts.benchmarks.client import Client
from scripts.benchmarks.load import Outcome, Target, summed_up

PATIENCE_S = 30.0
"""How long answers may take after the last request; those missing then are errors."""


@dataclass
class Tally:
    latencies_s: list[float] = field(default_factory=list)
    first_s: list[float] = field(default_factory=list)
    gaps_s: list[float] = field(default_factory=list)
    errors: int = 0

    async def ask(self, client: Client, due_at: float) -> None:
        answer = await client.ask()
        if not answer.good:
            self.errors += 1
            return
        self.latencies_s.append(answer.ended_at - due_at)
        self.first_s.append(answer.first_at - due_at)
        self.gaps_s.extend(answer.gaps_s)

    def outcome(self, seconds: float) -> Outcome:
        return summed_up(self.latencies_s, seconds, self.errors, self.first_s, self.gaps_s)


async def open_loop(target: Target, per_second: float, seconds: float) -> Outcome:
    """Send evenly spaced requests for so long; wait for all answers."""
    client, tally = Client(target), Tally()
    started = time.perf_counter()
    running = set()
    for number in range(round(per_second * seconds)):
        due_at = started + number / per_second
        await asyncio.sleep(max(0.0, due_at - time.perf_counter()))
        running.add(asyncio.create_task(tally.ask(client, due_at)))
    _, late = await asyncio.wait(running, timeout=PATIENCE_S)
    for task in late:
        task.cancel()
        tally.errors += 1
    client.close()
    return tally.outcome(seconds)


async def closed_loop(target: Target, connections: int, seconds: float) -> Outcome:
    """Keep that many requests running for so long."""
    client, tally = Client(target), Tally()
    started = time.perf_counter()

    async def keep_asking() -> None:
        while time.perf_counter() - started < seconds:
            await tally.ask(client, time.perf_counter())

    await asyncio.gather(*(keep_asking() for _ in range(connections)))
    client.close()
    return tally.outcome(time.perf_counter() - started)

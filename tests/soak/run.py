"""The soak (`scripts/soak --minutes 10`): all kinds of clients at once, for long, against real
tiers; memory, descriptors, threads and counters must end where they began.

It warms up, comes to rest, is measured, runs, comes to rest and is measured again.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from tests.processes import Service, serving
from tests.soak.clients import KINDS, Clients
from tests.waiting import await_condition

MIB = 1 << 20
WARM_UP_SHARE = 0.2
SAMPLE_EVERY_S = 0.5
REST_S = 60.0
SETTLE_S = 3.0

MEMORY_TOLERANCE_MIB = 64
DESCRIPTOR_TOLERANCE = 4
THREAD_TOLERANCE = 4
"""How much more a process may hold at the end than after the warm-up: allocators keep what they
have had, pools make their threads when first needed."""


@dataclass
class Sample:
    memory_bytes: int
    descriptors: int
    threads: int


@dataclass
class Process:
    """One process of the tiers and what it held: at the start, at most, at the end."""

    name: str
    pid: int
    start: Sample | None = None
    most_memory_bytes: int = 0
    end: Sample | None = None

    def sample(self) -> Sample:
        folder = Path(f"/proc/{self.pid}")
        facts = dict(
            line.split(":", 1) for line in (folder / "status").read_text().splitlines() if line
        )
        return Sample(
            memory_bytes=int(facts["VmRSS"].split()[0]) * 1024,
            descriptors=len(list((folder / "fd").iterdir())),
            threads=int(facts["Threads"]),
        )

    def settled(self) -> Sample:
        """The least it holds in the next seconds: freed memory goes back a little later."""
        samples = []
        until = time.monotonic() + SETTLE_S
        while time.monotonic() < until:
            samples.append(self.sample())
            time.sleep(SAMPLE_EVERY_S)
        return min(samples, key=lambda sample: sample.memory_bytes)

    def faults(self, tolerance_mib: int) -> list[str]:
        assert self.start is not None and self.end is not None
        found = []
        if self.end.memory_bytes - self.start.memory_bytes > tolerance_mib * MIB:
            found.append(f"{self.name}: memory has grown")
        if self.end.descriptors - self.start.descriptors > DESCRIPTOR_TOLERANCE:
            found.append(f"{self.name}: descriptors are left open")
        if self.end.threads - self.start.threads > THREAD_TOLERANCE:
            found.append(f"{self.name}: threads are left running")
        return found


@dataclass
class Soak:
    """A service under load."""

    service: Service
    processes: list[Process]
    outcomes: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)

    async def run(self, seconds: float, clients: int, seed: int) -> None:
        """Let so many clients do what they like for so long."""
        over = asyncio.Event()
        limits = httpx.Limits(max_connections=clients * 2)
        async with httpx.AsyncClient(
            base_url=self.service.url, timeout=60, limits=limits, trust_env=False
        ) as http:
            crowd = Clients(http, self.outcomes, self.faults)
            tasks = [asyncio.create_task(crowd.behave(seed + n, over)) for n in range(clients)]
            until = time.monotonic() + seconds
            while time.monotonic() < until:
                await asyncio.sleep(SAMPLE_EVERY_S)
                self._watch()
            over.set()
            await asyncio.gather(*tasks)

    def rest(self) -> None:
        """Wait until nothing runs, waits or is held any more."""
        await_condition(self._idle, "everything is free again", REST_S)

    def check_counters(self) -> None:
        stats = self.service.get("/v1/queue/stats")["metrics"]
        text = self.service.client.get(f"{self.service.url}/metrics").text
        counted = sum(
            float(line.rpartition(" ")[2])
            for line in text.splitlines()
            if line.startswith("gateway_requests_total{") and 'outcome="refused"' not in line
        )
        if counted != stats["total_requests"]:
            self.faults.append(f"counters differ: {counted:.0f} and {stats['total_requests']}")

    def _idle(self) -> bool:
        stats = self.service.get("/v1/queue/stats")
        queue = stats["queue_stats"]
        held = sum(worker["active"] for worker in stats["workers"])
        return bool(queue["active_requests"] == 0 and queue["queue_size"] == 0 and held == 0)

    def _watch(self) -> None:
        for process in self.processes:
            memory = process.sample().memory_bytes
            process.most_memory_bytes = max(process.most_memory_bytes, memory)


def soak(
    minutes: float,
    *,
    clients: int = 16,
    engine: str = "scripted",
    seed: int = 1,
    tolerance_mib: int = MEMORY_TOLERANCE_MIB,
) -> tuple[str, list[str]]:
    """Return the table and what is wrong."""
    flags = ("--engine", engine, "--max-concurrency", "8", "--max-streams", "8")
    bounds = (
        "--write-timeout",
        "2",
        "--body-timeout",
        "60",
        "--max-buffered-bytes",
        str(256 * MIB),
    )
    with serving(workers=1, worker_flags=flags, gateway_flags=bounds) as service:
        processes = [
            Process("gateway", service.gateway.process.pid),
            Process("supervisor", service.workers[0].process.pid),
            Process("engine", service.worker_states()[0]["pid"]),
        ]
        run = Soak(service, processes)
        asyncio.run(run.run(minutes * 60 * WARM_UP_SHARE, clients, seed))
        run.rest()
        for process in processes:
            process.start = process.settled()
        run.outcomes.clear()
        asyncio.run(run.run(minutes * 60, clients, seed + 1000))
        run.rest()
        for process in processes:
            process.end = process.settled()
            run.faults.extend(process.faults(tolerance_mib))
        run.check_counters()
        return table(run), run.faults


def table(run: Soak) -> str:
    lines = ["| client | outcomes |", "|---|---|"]
    for kind in KINDS:
        told = sorted(
            (name.partition(": ")[2], count)
            for name, count in run.outcomes.items()
            if name.startswith(f"{kind}: ")
        )
        lines.append(f"| {kind} | {', '.join(f'{count} x {name}' for name, count in told)} |")
    lines += [
        "",
        "| process | memory: start, most, end (MiB) | descriptors | threads |",
        "|---|---|---|---|",
    ]
    for process in run.processes:
        start, end = process.start, process.end
        assert start is not None and end is not None
        memory = (start.memory_bytes, process.most_memory_bytes, end.memory_bytes)
        lines.append(
            f"| {process.name} | {', '.join(str(bytes_ // MIB) for bytes_ in memory)} "
            f"| {start.descriptors}, {end.descriptors} | {start.threads}, {end.threads} |"
        )
    return "\n".join(lines)


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="scripts/soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0, help="[default: 10]")
    parser.add_argument("--clients", type=int, default=16, help="at once [default: 16]")
    parser.add_argument(
        "--engine", choices=("mlx", "scripted"), default="scripted", help="[default: scripted]"
    )
    parser.add_argument("--seed", type=int, default=1, help="of what clients do [default: 1]")
    parser.add_argument(
        "--tolerance-mib",
        type=int,
        default=MEMORY_TOLERANCE_MIB,
        help=f"most that a process may have grown [default: {MEMORY_TOLERANCE_MIB}]",
    )
    shown, faults = soak(**vars(parser.parse_args(argv)))
    print(shown)
    for fault in dict.fromkeys(faults):
        print(f"FAULT: {fault}")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

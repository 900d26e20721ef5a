"""A hundred Macs on one machine: the real dispatcher core, simulated workers and a simulated clock.

Everything that decides is the gateway's own code; only sockets, models and time are played. So
busy shares and cache hits are the dispatcher's, and what a decision costs is measured on the wall
clock, per call.
"""

from __future__ import annotations

import argparse
import heapq
import itertools
import random
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from gateway.dispatch.core.dispatcher import Dispatcher, Ended, Send
from gateway.dispatch.core.liveness import Membership
from gateway.dispatch.core.sessions import Registry
from gateway.generation import GenerationRequest
from scripts.benchmarks.report import Progress, Report, Row, percentile
from shared.messages import (
    Accepted,
    Delta,
    Deltas,
    Done,
    Heartbeat,
    Hello,
    Job,
    Message,
    Sampling,
    Submit,
    Timings,
    Usage,
)

DESCRIPTION = "The real dispatcher core on simulated workers: busy slots, cache hits, cost."

WIRE_S = 0.001
"""One way between the tiers, on a local network."""

ASKED = GenerationRequest(model="m", stream=False, prompt="p")
SERVICE_MEDIAN_S = 2.0
SERVICE_SPREAD = 0.7
"""Of the lognormal times that answers take: most between half a second and eight."""

FULL = 1e9
"""Times the slots: more than can ever be served, so that the queue is always full."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--workers", type=int, default=64)
    parser.add_argument("--slots", type=int, default=8, help="of each worker")
    parser.add_argument("--seconds", type=float, default=60.0, help="simulated")
    parser.add_argument("--queue-size", type=int, default=200)
    parser.add_argument("--conversations", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)


def run(options: argparse.Namespace) -> Report:
    report = Report("scale")
    loads = {"full queue": FULL, "80 % of the slots": 0.8, "50 % of the slots": 0.5}
    progress = Progress(len(loads))
    rows: list[Row] = []
    for name, load in loads.items():
        progress.step(name)
        fleet = Fleet(options, load)
        fleet.play(options.seconds)
        rows.append({"load": name, **fleet.figures(options.seconds)})
    progress.end()
    report.tables[f"{options.workers} workers of {options.slots} slots"] = rows
    return report


@dataclass
class Mac:
    """A simulated worker."""

    name: str
    routing_id: bytes
    slots: int
    jobs: set[str] = field(default_factory=set)
    busy_s: float = 0.0
    served: int = 0


class Fleet:
    """Args:
    load: new requests, in multiples of what all slots can serve; `FULL` keeps the queue full.
    """

    def __init__(self, options: argparse.Namespace, load: float) -> None:
        self.now = 0.0
        self.watch = Stopwatch()
        self.hits = self.returns = 0
        self._options, self._load = options, load
        self._random = random.Random(options.seed)
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()
        self._last_worker: dict[int, str] = {}
        self._registry = Registry()
        self._dispatcher = Dispatcher(
            options.queue_size, 600.0, self._registry, lambda stream, ahead, slots: 1.0
        )
        self._membership = Membership("gateway", self._registry, self._dispatcher)
        self._macs = {mac.routing_id: mac for mac in self._make_macs()}

    def play(self, seconds: float) -> None:
        for mac in self._macs.values():
            hello = Hello(
                worker=mac.name, models=["m"], slots=mac.slots, stream_slots=0, state="ready"
            )
            self._membership.message(mac.routing_id, hello, self.now)
            self._after(self._random.random(), lambda mac=mac: self._beat(mac))
        self._carry_out()
        self._after(0.0, self._arrive)
        while self._events and self._events[0][0] < seconds:
            self.now, _, event = heapq.heappop(self._events)
            event()

    def figures(self, seconds: float) -> Row:
        shares = [mac.busy_s / (seconds * mac.slots) for mac in self._macs.values()]
        served = Counter({mac.name: mac.served for mac in self._macs.values()})
        return {
            "answers": served.total(),
            "slots busy": sum(shares) / len(shares),
            "least busy worker": min(shares),
            "busiest worker": max(shares),
            "back to the same worker": self.hits / max(1, self.returns),
            "decision p50 us": percentile(self.watch.wall_s, 0.5) * 1e6,
            "p99 us": percentile(self.watch.wall_s, 0.99) * 1e6,
            "p99 CPU us": percentile(self.watch.cpu_s, 0.99) * 1e6,
        }

    # --- requests --------------------------------------------------------------------------

    def _arrive(self) -> None:
        """A request comes; the next one follows at the load's rate, or when there is room."""
        if self._load < FULL:
            self._request()
            slots = self._options.workers * self._options.slots
            mean_s = SERVICE_MEDIAN_S * 2.718281828 ** (SERVICE_SPREAD**2 / 2)
            self._after(self._random.expovariate(self._load * slots / mean_s), self._arrive)
            return
        while self._dispatcher.admission.waiting < self._options.queue_size:
            self._request()
        self._after(0.01, self._arrive)

    def _request(self) -> None:
        number = str(next(self._order))
        conversation = self._random.randrange(self._options.conversations)
        job = Job(
            id=number,
            answer_id=number,
            request_id=str(conversation),
            model="m",
            stream=False,
            sampling=Sampling(seed=1),
            prompt=f"conversation {conversation}",
        )
        with self.watch:
            pool, _ = self._dispatcher.resolve("m")
            record = self._dispatcher.reserve(number, number, ASKED, pool, self.now)
            self._dispatcher.submit(record, job, (), self.now)
        self._carry_out()

    # --- workers ---------------------------------------------------------------------------

    def _make_macs(self) -> Iterator[Mac]:
        for index in range(self._options.workers):
            yield Mac(f"mac-{index}", index.to_bytes(4, "big"), self._options.slots)

    def _take(self, mac: Mac, job: Job) -> None:
        assert len(mac.jobs) < mac.slots, "more jobs than slots"
        mac.jobs.add(job.id)
        conversation = int(job.request_id)
        if conversation in self._last_worker:
            self.returns += 1
            self.hits += self._last_worker[conversation] == mac.name
        self._last_worker[conversation] = mac.name
        self._say(mac, Accepted(job=job.id, prompt_tokens=10))
        service_s = self._random.lognormvariate(0.0, SERVICE_SPREAD) * SERVICE_MEDIAN_S
        counted_s = min(service_s, self._options.seconds - self.now)
        mac.busy_s += max(0.0, counted_s)
        self._after(service_s, lambda: self._finish(mac, job))

    def _finish(self, mac: Mac, job: Job) -> None:
        mac.jobs.discard(job.id)
        mac.served += 1
        self._say(mac, Deltas(items=[Delta(job.id, 0, 0, [1], "w", "stop")]))
        usage = Usage(prompt_tokens=10, completion_tokens=1)
        self._say(mac, Done(job=job.id, usage=usage, timings=Timings()))

    def _beat(self, mac: Mac) -> None:
        free = mac.slots - len(mac.jobs)
        beat = Heartbeat(
            state="ready", free_slots=free, jobs=sorted(mac.jobs), active=len(mac.jobs)
        )
        self._say(mac, beat)
        self._after(1.0, lambda: self._beat(mac))

    # --- plumbing --------------------------------------------------------------------------

    def _say(self, mac: Mac, message: Message) -> None:
        self._after(WIRE_S, lambda: self._hear(mac, message))

    def _hear(self, mac: Mac, message: Message) -> None:
        with self.watch:
            self._membership.message(mac.routing_id, message, self.now)
        self._carry_out()

    def _carry_out(self) -> None:
        effects, self._dispatcher.effects[:] = list(self._dispatcher.effects), []
        for effect in effects:
            if isinstance(effect, Send) and isinstance(effect.message, Submit):
                mac, job = self._macs[effect.routing_id], effect.message.job
                self._after(WIRE_S, lambda mac=mac, job=job: self._take(mac, job))
            elif isinstance(effect, Ended):
                assert effect.record.outcome == "finished", effect.record

    def _after(self, delay_s: float, event: Callable[[], None]) -> None:
        heapq.heappush(self._events, (self.now + delay_s, next(self._order), event))


class Stopwatch:
    """Notes the time that its blocks take: on the wall, and of the CPU, because on a shared
    machine the wall's time is also the neighbours'."""

    def __init__(self) -> None:
        self.wall_s: list[float] = []
        self.cpu_s: list[float] = []

    def __enter__(self) -> None:
        self._began = time.perf_counter(), time.thread_time()

    def __exit__(self, *error: object) -> None:
        wall_began, cpu_began = self._began
        self.wall_s.append(time.perf_counter() - wall_began)
        self.cpu_s.append(time.thread_time() - cpu_began)

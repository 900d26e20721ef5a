"""A hundred Macs on one machine: the real core of dispatch, simulated workers and clock.

Everything that decides is the gateway's own code; only sockets, models and time are played. So
busy shares and cache hits are its own, and what a decision costs is measured on the wall
clock, per call.
"""

from __future__ import annotations

import argparse
import heapq
import itertools
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from gateway.dispatch.core.acts import Prepare, Reserve
from gateway.dispatch.core.core import Core
from gateway.dispatch.core.effects import Effect, Ended, Send
from gateway.generation import GenerationRequest
from scripts.benchmarks.report import ProgressBar, Report, Row, percentile
from scripts.simulated_worker import SimulatedWorker
from shared.messages import Job, Message, Sampling, Submit

DESCRIPTION = "The real core of dispatch on simulated workers: busy slots, cache hits, cost."

WIRE_S = 0.001
"""One way between the tiers, on a local network."""

ASKED = GenerationRequest(model="m", stream=False, prompts=["p"])
SERVICE_MEDIAN_S = 2.0
SERVICE_SPREAD = 0.7
"""Of the lognormal times that answers take: most between half a second and eight."""

FULL = 1e9
"""Times the slots: more than can ever be served, so that the queue is always full."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--workers", type=int, default=64, help="simulated")
    parser.add_argument("--slots", type=int, default=8, help="of each worker")
    parser.add_argument("--seconds", type=float, default=60.0, help="simulated")
    parser.add_argument("--queue-size", type=int, default=200, help="places in line")
    parser.add_argument(
        "--conversations", type=int, default=1000, help="whose turns the requests are"
    )
    parser.add_argument("--seed", type=int, default=0, help="of the load")


def run(options: argparse.Namespace) -> Report:
    report = Report("scale")
    loads = {"full queue": FULL, "80 % of the slots": 0.8, "50 % of the slots": 0.5}
    progress = ProgressBar(len(loads))
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
class Mac(SimulatedWorker):
    """A worker of the fleet, and what it has done so far."""

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
        self._core = Core("gateway", options.queue_size, 600.0, lambda stream, ahead, slots: 1.0)
        self._macs = {mac.routing_id: mac for mac in map(self._make_mac, range(options.workers))}

    def play(self, seconds: float) -> None:
        for mac in self._macs.values():
            self._hear(mac, mac.hello())
            self._after(self._random.random(), partial(self._beat, mac))
        self._after(0.0, self._arrive)
        while self._events and self._events[0][0] < seconds:
            self.now, _, event = heapq.heappop(self._events)
            event()

    def figures(self, seconds: float) -> Row:
        shares = [mac.busy_s / (seconds * mac.slots) for mac in self._macs.values()]
        return {
            "answers": sum(mac.served for mac in self._macs.values()),
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
        while self._core.view.waiting < self._options.queue_size:
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
            effects = self._core.request(Reserve(number, number, ASKED), self.now)
            effects += self._core.request(Prepare(number, job), self.now)
        self._carry_out(effects)

    # --- workers ---------------------------------------------------------------------------

    def _make_mac(self, index: int) -> Mac:
        return Mac(
            f"mac-{index}",
            slots=self._options.slots,
            stream_slots=0,
            answer_tokens=1,
            routing_id=index.to_bytes(4, "big"),
        )

    def _take(self, mac: Mac, submit: Submit) -> None:
        assert mac.free(stream=False) > 0, "more jobs than slots"
        self._say(mac, mac.take(submit))
        conversation = int(submit.job.request_id)
        if conversation in self._last_worker:
            self.returns += 1
            self.hits += self._last_worker[conversation] == mac.name
        self._last_worker[conversation] = mac.name
        service_s = self._random.lognormvariate(0.0, SERVICE_SPREAD) * SERVICE_MEDIAN_S
        counted_s = min(service_s, self._options.seconds - self.now)
        mac.busy_s += max(0.0, counted_s)
        self._after(service_s, lambda: self._finish(mac, submit.job))

    def _finish(self, mac: Mac, job: Job) -> None:
        mac.served += 1
        self._say(mac, mac.step([job.id]))

    def _beat(self, mac: Mac) -> None:
        self._say(mac, [mac.heartbeat()])
        self._after(1.0, lambda: self._beat(mac))

    # --- plumbing --------------------------------------------------------------------------

    def _say(self, mac: Mac, messages: list[Message]) -> None:
        for message in messages:
            self._after(WIRE_S, partial(self._hear, mac, message))

    def _hear(self, mac: Mac, message: Message) -> None:
        with self.watch:
            effects = self._core.message(mac.routing_id, message, self.now)
        self._carry_out(effects)

    def _carry_out(self, effects: list[Effect]) -> None:
        for effect in effects:
            if isinstance(effect, Send) and isinstance(effect.message, Submit):
                mac, submit = self._macs[effect.routing_id], effect.message
                self._after(WIRE_S, partial(self._take, mac, submit))
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

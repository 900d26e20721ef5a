"""The engine thread: receive, step, publish. It owns the engine and everything MLX.

Orders come in through a queue, so every change to the batch happens between two steps. What the
engine brings forth goes out through `publish`, which another thread picks up.
"""

from __future__ import annotations

import logging
import math
import queue
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from shared.messages import Accepted, Cancelled, Done, Failed, Job, WorkerState
from worker.awake_clock import AwakeAge
from worker.engine.interface import (
    Engine,
    EngineEvent,
    EngineFactory,
    ModelError,
    ModelFacts,
    ModelUnavailable,
)

log = logging.getLogger(__name__)

IDLE_TURN_S = 0.2
"""How often an idle loop shows that it lives."""


@dataclass(frozen=True)
class Run:
    """`until`: how long its client waits for a first token, in monotonic seconds."""

    job: Job
    images: Sequence[bytes]
    until: float = math.inf


@dataclass(frozen=True)
class CountPrompt:
    job: Job
    images: Sequence[bytes]


@dataclass(frozen=True)
class Drop:
    job_id: str


@dataclass(frozen=True)
class Wake:
    pass


class RunNotes(Protocol):
    """Who is told, on the engine thread, which runs the engine has."""

    def begun(self, run_id: str) -> None: ...

    def ended(self, run_id: str) -> None: ...


Order = Run | CountPrompt | Drop | Wake
Output = EngineEvent | Cancelled
ENDS = (Done, Failed, Cancelled)
"""A run's last events. Written out where it is asked, the union would be made anew each time."""


@dataclass
class Progress:
    """Written by the engine thread, read by the link's; each field is one assignment."""

    state: WorkerState = "loading"
    loaded_fraction: float = 0.0
    steps: int = 0
    turned_at: float = field(default_factory=time.monotonic)
    computed_at: float = 0.0
    """When it was last seen to compute inside a step; the link's thread writes it."""
    facts: ModelFacts | None = None
    gauges: dict[str, float] = field(default_factory=dict)
    _age: AwakeAge = field(default_factory=AwakeAge)

    def age_s(self) -> float:
        """Seconds, as far as this process ran, since the loop last came round or computed; for the
        link's thread, several times a second. A stop counts at no point of its turn: it could lie
        between a look at the clock and the report, and a healthy engine was killed for it."""
        return self._age.of(max(self.turned_at, self.computed_at))


class EngineLoop:
    """
    Args:
        publish: takes what one step brought; called on the engine thread.
        notes: told of each run before the engine has it, and when it has it no more.
    """

    def __init__(
        self,
        make_engine: EngineFactory,
        publish: Callable[[list[Output]], None],
        notes: RunNotes | None = None,
    ) -> None:
        self.progress = Progress()
        self._orders: queue.SimpleQueue[Order] = queue.SimpleQueue()
        self._make_engine = make_engine
        self._publish = publish
        self._notes = notes
        self._gauges_at = 0.0
        self._awaited: dict[str, float] = {}
        """Jobs that have brought nothing yet, and until when their clients wait."""

    def put(self, order: Order) -> None:
        """Hand in an order, from any thread."""
        self._orders.put(order)

    def run(self) -> None:
        """Load the model, then serve for ever. Raises what the engine cannot recover from."""
        engine = self._make_engine(self._report, lambda: self._orders.put(Wake()))
        self.progress.facts = engine.facts
        self.progress.loaded_fraction = 1.0
        self.progress.state = "ready"
        while True:
            self._turn(engine)

    def _turn(self, engine: Engine) -> None:
        output: list[Output] = self._receive(engine)
        output.extend(self._drop_overdue(engine))
        output.extend(engine.step())
        if output:
            self._publish(output)
            self._note(output)
        self.progress.steps += 1
        self.progress.turned_at = time.monotonic()
        self._refresh_gauges(engine)

    def _receive(self, engine: Engine) -> list[Output]:
        """Carry out all waiting orders; wait for one when there is nothing else to do."""
        confirmed: list[Output] = []
        wait_s = 0.0 if engine.has_work() else IDLE_TURN_S
        while True:
            try:
                order = self._orders.get(timeout=wait_s) if wait_s else self._orders.get_nowait()
            except queue.Empty:
                return confirmed
            wait_s = 0.0
            if isinstance(order, Run):
                if self._notes is not None:
                    self._notes.begun(order.job.id)
                self._awaited[order.job.id] = order.until
                engine.submit(order.job, order.images)
            elif isinstance(order, CountPrompt):
                engine.count(order.job, order.images)
            elif isinstance(order, Drop) and engine.cancel(order.job_id):
                confirmed.append(Cancelled(job=order.job_id))

    def _drop_overdue(self, engine: Engine) -> Iterator[Cancelled]:
        """Forget what nobody waits for any more, before the engine has gone to any lengths."""
        if not self._awaited:
            return
        now = time.monotonic()
        for job_id in [job_id for job_id, until in self._awaited.items() if now >= until]:
            del self._awaited[job_id]
            if engine.cancel(job_id):
                yield Cancelled(job=job_id)

    def _note(self, output: list[Output]) -> None:
        for event in output:
            if isinstance(event, Accepted):
                continue
            self._awaited.pop(event.job, None)
            if self._notes is not None and isinstance(event, ENDS):
                self._notes.ended(event.job)

    def _report(self, fraction: float) -> None:
        self.progress.loaded_fraction = fraction
        self.progress.turned_at = time.monotonic()

    def _refresh_gauges(self, engine: Engine) -> None:
        if self.progress.turned_at - self._gauges_at > 1.0:
            self._gauges_at = self.progress.turned_at
            self.progress.gauges = engine.gauges()


class EngineThread(threading.Thread):
    """Runs the loop and remembers why it ended."""

    def __init__(self, loop: EngineLoop) -> None:
        super().__init__(name="engine", daemon=True)
        self.loop = loop
        self.hopeless: ModelError | None = None

    def run(self) -> None:
        try:
            self.loop.run()
        except ModelError as error:
            self.hopeless = error
        except ModelUnavailable as error:
            log.error("%s", error)
        except BaseException:
            log.exception("the engine has failed; its process ends and is started again")

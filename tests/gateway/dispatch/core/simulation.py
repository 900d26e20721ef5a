"""A gateway's core and its workers in one process: no sockets, no clock but `now`.

The workers obey the protocol, and their links can lose messages, so that what the core promises
can be checked against any order of events. Only the core's own entries are called.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from gateway.dispatch.core.acts import (
    Abandon,
    Act,
    Order,
    OrderModel,
    Prepare,
    Reserve,
)
from gateway.dispatch.core.core import Core
from gateway.dispatch.core.effects import Effect, Ended, Send, Tell
from gateway.dispatch.core.jobs import JobRecord, Phase
from gateway.errors import ApiError
from gateway.generation import GenerationRequest
from gateway.status import ModelAction
from scripts.simulated_worker import STALL_TIMEOUT_S, SimulatedWorker
from shared.messages import (
    Accepted,
    Delta,
    Done,
    Hello,
    Job,
    Load,
    Message,
    Sampling,
    Submit,
    WorkerAction,
)


class Host(Protocol):
    """A supervisor with a catalogue: `simulated_host.py` has one."""

    routing_id: bytes

    def take(self, message: Message) -> list[Message]: ...

    def tell(self) -> None: ...

    def advance(self) -> None: ...


ALL_TOKENS = list(range(8))
"""The tokens of a complete answer."""
HUNG_S = STALL_TIMEOUT_S + 1
"""Without a step for so long, a worker with jobs is taken for dead."""


@dataclass
class Client:
    """What one request has been told."""

    record: JobRecord
    sent_to: set[bytes] = field(default_factory=set)
    """Sessions that a run of it was handed to."""
    accepted: list[Accepted] = field(default_factory=list)
    tokens: list[int] = field(default_factory=list)
    ends: list[Done | ApiError] = field(default_factory=list)

    def phase(self) -> Phase:
        return self.record.phase


class Simulation:
    def __init__(
        self, queue_size: int = 4, queue_timeout_s: float = 30.0, stream_wait_s: float = 0.0
    ) -> None:
        self.now = 1_000.0
        self.core = Core(
            "gateway", queue_size, queue_timeout_s, lambda stream, ahead, slots: 1.0, stream_wait_s
        )
        self.workers: dict[bytes, SimulatedWorker] = {}
        self.hosts: dict[bytes, Host] = {}
        self.deaf: set[bytes] = set()
        """Workers stopped or cut off: they send nothing and what is sent to them is lost."""
        self.clients: dict[str, Client] = {}
        self.sent: list[Send] = []
        self.asked_at: dict[str, float] = {}
        """When some host was last asked to load a model."""
        self.ended: list[JobRecord] = []
        self._ids = itertools.count()
        self._inbox: deque[tuple[bytes, Message]] = deque()
        self._later: deque[Callable[[], object]] = deque()

    # --- requests --------------------------------------------------------------------------

    def request(
        self,
        *,
        model: str | None = "m",
        stream: bool = False,
        only_counts: bool = False,
        submit: bool = True,
        images: Sequence[bytes] = (),
        idle_unload_s: float | None = None,
    ) -> Client:
        """Raises what `Core.request` raises."""
        job_id = f"job-{next(self._ids)}"
        asked = GenerationRequest(
            model=model, stream=stream, prompts=["p"], idle_unload_s=idle_unload_s
        )
        self._act(Reserve(job_id, job_id, asked, only_counts))
        client = self.clients[job_id] = Client(self.core.view.jobs[job_id])
        if submit:
            self.submit(client, images)
        return client

    def submit(
        self, client: Client, images: Sequence[bytes] = (), *, model: str | None = None
    ) -> None:
        record = client.record
        job = Job(
            id=record.id,
            answer_id=record.id,
            request_id=record.id,
            model=model or record.pool,
            stream=record.stream,
            sampling=Sampling(seed=1),
            prompt="p",
        )
        self._act(Prepare(record.id, job, images))

    def cancel(self, client: Client) -> None:
        self._act(Abandon(client.record.id))

    def order(self, worker: str, action: WorkerAction) -> None:
        self._act(Order(worker, action))

    def order_model(self, model: str, action: ModelAction) -> None:
        """Raises what `Core.request` raises."""
        self._act(OrderModel(model, action))

    # --- hosts -----------------------------------------------------------------------------

    def join(self, host: Host) -> None:
        host.routing_id = f"host-{next(self._ids)}".encode()
        self.hosts[host.routing_id] = host
        host.tell()

    def lose_host(self, host: Host) -> None:
        """Its process is gone; nobody has noticed yet."""
        self.hosts.pop(host.routing_id, None)

    def later(self, event: Callable[[], object]) -> None:
        """What happens as soon as the message at hand is dealt with."""
        self._later.append(event)

    # --- workers ---------------------------------------------------------------------------

    def connect(self, worker: SimulatedWorker, hello: Hello | None = None) -> SimulatedWorker:
        worker.routing_id = f"session-{next(self._ids)}".encode()
        self.workers[worker.routing_id] = worker
        self.say(worker, hello or worker.hello())
        return worker

    def say(self, worker: SimulatedWorker, message: Message) -> None:
        self.arrive(worker.routing_id, message)

    def arrive(self, routing_id: bytes, message: Message) -> None:
        """A message from any peer."""
        self._inbox.append((routing_id, message))
        self._deliver()

    def arrive_together(self, messages: Sequence[tuple[bytes, Message]]) -> None:
        """What had gathered unread, before anything is answered."""
        self._inbox.extend(messages)
        self._deliver()

    def step(self, worker: SimulatedWorker) -> None:
        if worker.routing_id not in self.deaf:
            for message in worker.step():
                self.say(worker, message)

    def beat(self, worker: SimulatedWorker) -> None:
        if worker.routing_id not in self.deaf:
            self.say(worker, worker.heartbeat())

    def cut(self, worker: SimulatedWorker) -> None:
        self.deaf.add(worker.routing_id)

    def mend(self, worker: SimulatedWorker) -> None:
        self.deaf.discard(worker.routing_id)

    def vanish(self, worker: SimulatedWorker) -> None:
        """The process dies, and nobody has noticed yet."""
        self.workers.pop(worker.routing_id, None)

    def kill(self, worker: SimulatedWorker) -> None:
        """The process dies, and the gateway notices that somebody's connection is broken."""
        self.vanish(worker)
        self._carry_out(self.core.tick(self.now, somebody_gone=True))

    def restart(self, worker: SimulatedWorker) -> SimulatedWorker:
        self.kill(worker)
        return self.connect(SimulatedWorker(worker.name, worker.slots, worker.stream_slots))

    # --- time ------------------------------------------------------------------------------

    def pass_time(self, seconds: float) -> None:
        self.now += seconds
        for worker in list(self.workers.values()):
            self.beat(worker)
        for host in list(self.hosts.values()):
            host.advance()
        self.tick()

    def tick(self) -> None:
        self._carry_out(self.core.tick(self.now))

    def stand_still(self, seconds: float) -> None:
        """The gateway's own process is not run for so long."""
        self.now += seconds
        self._carry_out(self.core.tick(self.now, stood_still=True))

    # --- plumbing --------------------------------------------------------------------------

    def _act(self, act: Act) -> None:
        self._carry_out(self.core.request(act, self.now))

    def _carry_out(self, effects: list[Effect]) -> None:
        """Do what the core wants, then deliver until nobody has anything to say."""
        self._do(effects)
        self._deliver()

    def _deliver(self) -> None:
        while self._inbox or self._later:
            if self._inbox:
                routing_id, message = self._inbox.popleft()
                self._do(self.core.message(routing_id, message, self.now))
            else:
                self._later.popleft()()

    def _do(self, effects: list[Effect]) -> None:
        while effects:
            undelivered = []
            for effect in effects:
                if isinstance(effect, Ended):
                    self.ended.append(effect.record)
                elif isinstance(effect, Tell):
                    self._tell(self.clients[effect.job_id], effect)
                elif not self._sent(effect):
                    undelivered.append(effect)
            effects = self.core.undelivered(undelivered, self.now) if undelivered else []

    @staticmethod
    def _tell(client: Client, effect: Tell) -> None:
        for event in effect.events:
            if isinstance(event, Delta):
                client.tokens.extend(event.tokens)
            elif isinstance(event, Accepted):
                client.accepted.append(event)
            else:
                client.ends.append(event)
        if effect.error is not None:
            client.ends.append(effect.error)

    def _sent(self, send: Send) -> bool:
        self.sent.append(send)
        if isinstance(send.message, Load):
            self.asked_at[send.message.model] = self.now
        host = self.hosts.get(send.routing_id)
        if host is not None:
            if send.routing_id not in self.deaf:
                self._inbox.extend((send.routing_id, reply) for reply in host.take(send.message))
            return True
        worker = self.workers.get(send.routing_id)
        if worker is not None and isinstance(send.message, Submit):
            self.clients[send.message.job.answer_id].sent_to.add(send.routing_id)
        if worker is not None and send.routing_id not in self.deaf:
            for reply in worker.take(send.message):
                self._inbox.append((send.routing_id, reply))
        return worker is not None


# --- what stories begin and end with -----------------------------------------------------------


def one_worker(**slots: Any) -> tuple[Simulation, SimulatedWorker]:
    simulation = Simulation()
    return simulation, simulation.connect(SimulatedWorker("a", **slots))


def run(simulation: Simulation, steps: int = 20) -> None:
    for _ in range(steps):
        for worker in list(simulation.workers.values()):
            simulation.step(worker)


def finished(client: Client) -> bool:
    return client.record.outcome == "finished" and client.tokens == ALL_TOKENS

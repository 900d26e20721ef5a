"""A gateway's dispatch and its workers in one process: no sockets, no clock but `now`.

The workers here obey the protocol as `docs/protocol.md` states it, and their links can lose
messages, so that what the dispatcher promises can be checked against any order of events.
"""

from __future__ import annotations

import itertools
from collections import deque
from dataclasses import dataclass, field

from gateway.dispatch.core.dispatcher import Dispatcher, Ended, Send, Tell
from gateway.dispatch.core.jobs import JobRecord
from gateway.dispatch.core.liveness import Membership
from gateway.dispatch.core.sessions import Registry
from gateway.errors import ApiError
from gateway.generation import GenerationRequest
from shared.messages import (
    Accepted,
    Cancel,
    Cancelled,
    Delta,
    Deltas,
    Done,
    Heartbeat,
    Hello,
    Identify,
    Job,
    Message,
    Rejected,
    Sampling,
    Submit,
    Timings,
    Usage,
)


@dataclass
class SimulatedWorker:
    """Token i of every answer is the integer i, so a gap or a repeat cannot hide."""

    name: str
    slots: int = 1
    stream_slots: int = 1
    routing_id: bytes = b""
    jobs: dict[str, Job] = field(default_factory=dict)
    made: dict[str, int] = field(default_factory=dict)
    sequences: dict[str, int] = field(default_factory=dict)
    deaf: bool = False
    """Stopped or cut off: it sends nothing and what is sent to it is lost."""
    in_one: bool = False
    """Says all that a step brings in one message, as our own workers do; else one for each."""
    accepted: list[Accepted] = field(default_factory=list)

    def hello(self) -> Hello:
        return Hello(
            worker=self.name,
            models=["m"],
            slots=self.slots,
            stream_slots=self.stream_slots,
            state="ready",
        )

    def free(self, stream: bool) -> int:
        limit = self.stream_slots if stream else self.slots
        return limit - sum(1 for job in self.jobs.values() if job.stream == stream)

    def heartbeat(self) -> Heartbeat:
        return Heartbeat(
            state="ready",
            free_slots=self.free(False),
            free_stream_slots=self.free(True),
            jobs=[job.id for job in self.jobs.values() if not job.stream],
            streams=[job.id for job in self.jobs.values() if job.stream],
            active=len(self.jobs),
        )

    def holds(self, record: JobRecord) -> bool:
        return any(job.answer_id == record.id for job in self.jobs.values())

    def take(self, message: Message) -> list[Message]:
        if isinstance(message, Submit):
            return self._submit(message.job)
        if isinstance(message, Cancel):
            for job_id in message.jobs:
                self._forget(job_id)
            return [Cancelled(job=job_id) for job_id in message.jobs]
        if isinstance(message, Identify):
            self.jobs.clear()
            return [self.hello()]
        return []

    def step(self) -> list[Message]:
        """One token for every job; a job has eight."""
        items, ends = [], []
        for job_id in list(self.jobs):
            token = self.made[job_id]
            finish = "stop" if token == 7 else None
            sequence = self.sequences[job_id]
            items.append(Delta(job_id, sequence, 0, [token], f"{token} ", finish))
            self.made[job_id] += 1
            self.sequences[job_id] += 1
            if finish:
                usage = Usage(prompt_tokens=1, completion_tokens=self.made[job_id])
                ends.append(Done(job=job_id, usage=usage, timings=Timings()))
                self._forget(job_id)
        if self.in_one and items:
            accepted, self.accepted = self.accepted, []
            return [Deltas(items=items, accepted=accepted, done=ends)]
        return [Deltas(items=items), *ends] if items else []

    def _submit(self, job: Job) -> list[Message]:
        assert job.id not in self.jobs
        if self.free(job.stream) <= 0:
            return [Rejected(job=job.id, reason="no_slot")]
        self.jobs[job.id] = job
        self.made[job.id] = len(job.resume[0].tokens) if job.resume else 0
        self.sequences[job.id] = 0
        accepted = Accepted(job=job.id, prompt_tokens=1)
        if not self.in_one:
            return [accepted]
        self.accepted.append(accepted)
        return []

    def _forget(self, job_id: str) -> None:
        self.jobs.pop(job_id, None)


@dataclass
class Client:
    """What one request has been told."""

    record: JobRecord
    tokens: list[int] = field(default_factory=list)
    ends: list[Done | ApiError] = field(default_factory=list)


class Simulation:
    def __init__(self, queue_size: int = 4, queue_timeout_s: float = 30.0) -> None:
        self.now = 1_000.0
        self.registry = Registry()
        self.dispatcher = Dispatcher(
            queue_size, queue_timeout_s, self.registry, lambda stream, ahead, slots: 1.0
        )
        self.membership = Membership("gateway", self.registry, self.dispatcher)
        self.workers: dict[bytes, SimulatedWorker] = {}
        self.clients: dict[str, Client] = {}
        self.ended: list[JobRecord] = []
        self._ids = itertools.count()
        self._inbox: deque[tuple[bytes, Message]] = deque()

    # --- the world's moves -----------------------------------------------------------------

    def connect(self, worker: SimulatedWorker) -> SimulatedWorker:
        worker.routing_id = f"session-{next(self._ids)}".encode()
        self.workers[worker.routing_id] = worker
        self.say(worker, worker.hello())
        return worker

    def request(self, *, stream: bool = False, submit: bool = True) -> Client:
        """Raises what `reserve` raises."""
        pool, _ = self.dispatcher.resolve("m")
        job_id = f"job-{next(self._ids)}"
        asked = GenerationRequest(model="m", stream=stream, prompt="p")
        record = self.dispatcher.reserve(job_id, job_id, asked, pool, self.now)
        client = self.clients[job_id] = Client(record)
        if submit:
            self.submit(client)
        return client

    def submit(self, client: Client) -> None:
        record = client.record
        job = Job(
            id=record.id,
            answer_id=record.id,
            request_id=record.id,
            model="m",
            stream=record.stream,
            sampling=Sampling(seed=1),
            prompt="p",
        )
        self.dispatcher.submit(record, job, (), self.now)
        self.settle()

    def cancel(self, client: Client) -> None:
        self.dispatcher.cancel(client.record, self.now)
        self.settle()

    def step(self, worker: SimulatedWorker) -> None:
        if not worker.deaf:
            for message in worker.step():
                self.say(worker, message)

    def beat(self, worker: SimulatedWorker) -> None:
        if not worker.deaf:
            self.say(worker, worker.heartbeat())

    def kill(self, worker: SimulatedWorker) -> None:
        """The process dies; the gateway's next send there fails."""
        self.workers.pop(worker.routing_id, None)
        self.membership.unreachable(worker.routing_id, self.now)
        self.settle()

    def restart(self, worker: SimulatedWorker) -> SimulatedWorker:
        self.kill(worker)
        return self.connect(SimulatedWorker(worker.name, worker.slots, worker.stream_slots))

    def pass_time(self, seconds: float) -> None:
        self.now += seconds
        for worker in list(self.workers.values()):
            self.beat(worker)
        self.membership.tick(self.now)
        self.dispatcher.tick(self.now)
        self.settle()

    # --- plumbing --------------------------------------------------------------------------

    def say(self, worker: SimulatedWorker, message: Message) -> None:
        self._inbox.append((worker.routing_id, message))
        self.settle()

    def settle(self) -> None:
        """Deliver until nobody has anything to say."""
        while self._inbox or self.dispatcher.effects:
            effects, self.dispatcher.effects[:] = list(self.dispatcher.effects), []
            for effect in effects:
                self._carry_out(effect)
            if self._inbox:
                routing_id, message = self._inbox.popleft()
                if routing_id in self.workers:
                    self.membership.message(routing_id, message, self.now)

    def _carry_out(self, effect: Send | Tell | Ended) -> None:
        if isinstance(effect, Ended):
            self.ended.append(effect.record)
        elif isinstance(effect, Tell):
            client = self.clients[effect.job_id]
            if isinstance(effect.news, Delta):
                client.tokens.extend(effect.news.tokens)
            elif not isinstance(effect.news, Accepted):
                client.ends.append(effect.news)
        else:
            worker = self.workers.get(effect.routing_id)
            if worker is None:
                if isinstance(effect.message, Submit):
                    self.membership.failover.undelivered(effect.message.job.id)
                self.membership.unreachable(effect.routing_id, self.now)
            elif not worker.deaf:
                for reply in worker.take(effect.message):
                    self._inbox.append((worker.routing_id, reply))

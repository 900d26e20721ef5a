"""Any order of requests, cancels, deaths, cuts and time: the promises hold."""

from __future__ import annotations

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from gateway.dispatch.core.jobs import Phase
from gateway.errors import ApiError
from shared.messages import Done
from tests.gateway.dispatch.core.simulation import SimulatedWorker, Simulation

WORKERS = ("a", "b", "c")


class DispatchMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.simulation = Simulation(queue_size=3, queue_timeout_s=12)
        self.refused = 0
        self.simulation.connect(SimulatedWorker("a"))

    def pick(self, number: int) -> SimulatedWorker | None:
        workers = list(self.simulation.workers.values())
        return workers[number % len(workers)] if workers else None

    @rule(stream=st.booleans(), submit=st.booleans())
    def request(self, stream: bool, submit: bool) -> None:
        try:
            self.simulation.request(stream=stream, submit=submit)
        except ApiError as refusal:
            self.refused += 1
            assert refusal.status in (429, 503)

    @rule(number=st.integers(0, 30))
    def prepare(self, number: int) -> None:
        clients = [c for c in self.simulation.clients.values() if c.record.phase is Phase.PREPARING]
        if clients:
            self.simulation.submit(clients[number % len(clients)])

    @rule(number=st.integers(0, 30))
    def cancel(self, number: int) -> None:
        clients = list(self.simulation.clients.values())
        if clients:
            self.simulation.cancel(clients[number % len(clients)])

    @rule(number=st.integers(0, 5), times=st.integers(1, 8))
    def step(self, number: int, times: int) -> None:
        worker = self.pick(number)
        for _ in range(times if worker else 0):
            self.simulation.step(worker)

    @rule(number=st.integers(0, 5))
    def lose_a_message(self, number: int) -> None:
        worker = self.pick(number)
        if worker:
            worker.step()

    @rule(number=st.integers(0, 5))
    def beat(self, number: int) -> None:
        worker = self.pick(number)
        if worker:
            self.simulation.beat(worker)

    @rule(
        name=st.sampled_from(WORKERS),
        slots=st.integers(0, 2),
        streams=st.integers(0, 2),
        in_one=st.booleans(),
    )
    def connect(self, name: str, slots: int, streams: int, in_one: bool) -> None:
        if all(worker.name != name for worker in self.simulation.workers.values()):
            self.simulation.connect(SimulatedWorker(name, slots, streams, in_one=in_one))

    @rule(number=st.integers(0, 5))
    def kill(self, number: int) -> None:
        worker = self.pick(number)
        if worker:
            self.simulation.kill(worker)

    @rule(number=st.integers(0, 5), deaf=st.booleans())
    def cut_or_mend(self, number: int, deaf: bool) -> None:
        worker = self.pick(number)
        if worker:
            worker.deaf = deaf

    @rule(seconds=st.sampled_from([0.1, 0.9, 2.0, 5.0]))
    def pass_time(self, seconds: float) -> None:
        self.simulation.pass_time(seconds)

    @invariant()
    def nothing_is_repeated_or_missing(self) -> None:
        for client in self.simulation.clients.values():
            assert client.tokens == list(range(len(client.tokens)))

    @invariant()
    def one_end_each_and_a_whole_answer_only_when_finished(self) -> None:
        for client in self.simulation.clients.values():
            assert len(client.ends) <= 1
            if client.ends and isinstance(client.ends[0], Done):
                assert len(client.tokens) == 8

    @invariant()
    def counters_balance(self) -> None:
        simulation = self.simulation
        live = len(simulation.dispatcher.jobs)
        assert len(simulation.clients) == len(simulation.ended) + live
        admission = simulation.dispatcher.admission
        assert admission.active + admission.waiting == live
        assert 0 <= admission.waiting <= 3

    @invariant()
    def no_worker_is_overcommitted(self) -> None:
        for worker in self.simulation.workers.values():
            assert worker.free(False) >= 0 and worker.free(True) >= 0

    @invariant()
    def what_is_out_is_counted_right(self) -> None:
        for session in self.simulation.registry.sessions.values():
            streams = sum(session.outstanding.values())
            assert session.room(stream=True) == session.stream_slots - streams
            whole = len(session.outstanding) - streams
            assert session.room(stream=False) == session.slots - whole

    def teardown(self) -> None:
        """Whatever happened, with a healthy worker and time everything drains."""
        simulation = self.simulation
        for worker in list(simulation.workers.values()):
            simulation.kill(worker)
        simulation.connect(SimulatedWorker("a", 8, 8))
        for client in list(simulation.clients.values()):
            simulation.submit(client)
        for _ in range(40):
            for worker in list(simulation.workers.values()):
                simulation.step(worker)
            simulation.pass_time(0.5)
        assert not simulation.dispatcher.jobs
        assert simulation.dispatcher.admission.active == 0
        assert simulation.dispatcher.admission.waiting == 0
        for session in simulation.registry.sessions.values():
            assert not session.outstanding


TestDispatch = DispatchMachine.TestCase
TestDispatch.settings = settings(
    max_examples=150,
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)

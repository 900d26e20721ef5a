"""Any order of requests, cancels, deaths, cuts and time: the promises hold."""

from __future__ import annotations

from collections import Counter

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from gateway.dispatch.core.jobs import CLAIM_S, KINDS, Kind, Phase
from gateway.dispatch.core.sessions import MAX_COUNTS_ASKED
from gateway.errors import ApiError
from scripts.simulated_worker import SimulatedWorker
from shared.messages import Done, Goodbye, Rejected, RejectReason
from tests.gateway.dispatch.core.simulation import Simulation
from tests.properties import examples

WORKERS = ("a", "b", "c")


class DispatchMachine(RuleBasedStateMachine):
    stream_wait_s = 0.0

    def __init__(self) -> None:
        super().__init__()
        self.simulation = Simulation(
            queue_size=3, queue_timeout_s=12, stream_wait_s=self.stream_wait_s
        )
        self.refused = 0
        self.pid = 0
        self.simulation.connect(SimulatedWorker("a"))

    def pick(self, number: int) -> SimulatedWorker | None:
        workers = list(self.simulation.workers.values())
        return workers[number % len(workers)] if workers else None

    @rule(kind=st.sampled_from(KINDS), submit=st.booleans())
    def request(self, kind: Kind, submit: bool) -> None:
        stream, only_counts = kind == "streaming", kind == "counting"
        try:
            self.simulation.request(stream=stream, only_counts=only_counts, submit=submit)
        except ApiError as refusal:
            self.refused += 1
            assert refusal.status in (429, 503)

    @rule(number=st.integers(0, 30))
    def prepare(self, number: int) -> None:
        clients = [c for c in self.simulation.clients.values() if c.phase() is Phase.PREPARING]
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
        for _ in range(times):
            if worker:
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
            self.pid += 1
            self.simulation.connect(
                SimulatedWorker(name, slots, streams, in_one=in_one, pid=self.pid)
            )

    @rule(number=st.integers(0, 5))
    def kill(self, number: int) -> None:
        worker = self.pick(number)
        if worker:
            self.simulation.kill(worker)

    @rule(number=st.integers(0, 5))
    def vanish(self, number: int) -> None:
        worker = self.pick(number)
        if worker:
            self.simulation.vanish(worker)

    @rule(slots=st.integers(0, 2), streams=st.integers(0, 2))
    def say_hello_and_die(self, slots: int, streams: int) -> None:
        self.simulation.arrive(b"gone", SimulatedWorker("d", slots, streams).hello())

    @rule(number=st.integers(0, 5))
    def greet_under_a_made_up_id(self, number: int) -> None:
        """What was left unread of a connection that a newer one has replaced."""
        worker = self.pick(number)
        if worker:
            self.simulation.arrive(b"\0made up", worker.hello())

    @rule(number=st.integers(0, 5))
    def greet_again(self, number: int) -> None:
        worker = self.pick(number)
        if worker:
            worker.runs.clear()
            worker.prompts.clear()
            self.simulation.say(worker, worker.hello())

    @rule(number=st.integers(0, 5), cut=st.booleans())
    def cut_or_mend(self, number: int, cut: bool) -> None:
        worker = self.pick(number)
        if worker:
            (self.simulation.cut if cut else self.simulation.mend)(worker)

    @rule(number=st.integers(0, 5), reason=st.sampled_from(["no_slot", "draining"]))
    def reject(self, number: int, reason: RejectReason) -> None:
        """A worker does not keep a run that it was sent, whether somebody waits for it or not."""
        worker = self.pick(number)
        session = self.simulation.core.view.sessions.get(worker.routing_id) if worker else None
        runs = [*session.outstanding, *session.counting] if session else []
        if worker and runs:
            run_id = runs[number % len(runs)]
            worker.drop(run_id)
            self.simulation.say(worker, Rejected(job=run_id, reason=reason))

    @rule(number=st.integers(0, 5), returning=st.booleans())
    def leave_in_order(self, number: int, returning: bool) -> None:
        worker = self.pick(number)
        if worker:
            self.simulation.vanish(worker)
            self.simulation.say(worker, Goodbye(returning=returning))

    @rule(seconds=st.sampled_from([0.1, 0.9, 2.0, 5.0]))
    def pass_time(self, seconds: float) -> None:
        self.simulation.pass_time(seconds)

    @rule(seconds=st.sampled_from([1.0, 4.0]))
    def stand_still(self, seconds: float) -> None:
        self.simulation.stand_still(seconds)

    @invariant()
    def no_ready_job_is_left_beside_room_for_it(self) -> None:
        view = self.simulation.core.view
        for record in view.jobs.values():
            if record.phase is Phase.READY and record.active and not record.on_hold:
                ready = [s for s in view.sessions.values() if s.state == "ready"]
                able = [s for s in ready if not (s.suspect or s.hung)]
                assert not any(session.room(record.kind) > 0 for session in able)

    @invariant()
    def nobody_waits_beside_a_free_slot(self) -> None:
        view = self.simulation.core.view
        for record in view.jobs.values():
            assert record.active or view.free_slots("m", stream=record.stream) <= 0

    @invariant()
    def nobody_ready_waits_for_slow_pictures(self) -> None:
        simulation = self.simulation
        jobs = [r for r in simulation.core.view.jobs.values() if r.kind == "non_streaming"]
        if any(record.phase is Phase.READY and not record.active for record in jobs):
            for record in jobs:
                if record.phase is Phase.PREPARING and record.active:
                    assert simulation.now < record.at.arrived_at + CLAIM_S

    @invariant()
    def no_stream_waits_longer_than_it_may(self) -> None:
        simulation = self.simulation
        for record in simulation.core.view.jobs.values():
            if record.stream and not record.active:
                # The clock of these tests goes on by up to 5 s before the core is told.
                assert simulation.now <= record.at.arrived_at + self.stream_wait_s

    @invariant()
    def a_pool_has_the_slots_that_its_workers_offer(self) -> None:
        view = self.simulation.core.view
        offered = sum(hello.slots for hello in view.available())
        ready = [session for session in view.sessions.values() if session.state == "ready"]
        elsewhere = sum(session.hello.slots - session.slots for session in ready)
        jobs = [record for record in view.jobs.values() if record.kind == "non_streaming"]
        held = sum(record.active for record in jobs)
        assert view.free_slots("m") == offered - elsewhere - held

    @invariant()
    def no_job_is_blamed_for_a_worker_that_never_got_it(self) -> None:
        for client in self.simulation.clients.values():
            record = client.record
            assert record.deaths + len(record.lost) <= len(client.sent_to)

    @invariant()
    def nothing_is_repeated_or_missing(self) -> None:
        for client in self.simulation.clients.values():
            assert client.tokens == list(range(len(client.tokens)))

    @invariant()
    def one_end_each_and_all_tokens_when_finished(self) -> None:
        for client in self.simulation.clients.values():
            assert len(client.ends) <= 1
            if client.ends and isinstance(client.ends[0], Done):
                assert len(client.tokens) == 8
            if client.record.only_counts:
                assert len(client.accepted) == (client.record.outcome == "finished")

    @invariant()
    def counters_balance(self) -> None:
        simulation = self.simulation
        view = simulation.core.view
        assert len(simulation.clients) == len(simulation.ended) + len(view.jobs)
        in_slots = [record for record in view.jobs.values() if not record.only_counts]
        assert view.active + view.waiting == len(in_slots)
        assert 0 <= view.waiting <= 3

    @invariant()
    def no_worker_is_overcommitted(self) -> None:
        for worker in self.simulation.workers.values():
            assert worker.free(stream=False) >= 0 and worker.free(stream=True) >= 0
            assert len(worker.prompts) <= MAX_COUNTS_ASKED

    @invariant()
    def what_is_out_is_counted_right(self) -> None:
        for session in self.simulation.core.view.sessions.values():
            kinds = Counter(session.outstanding.values())
            assert session.room("streaming") == session.stream_slots - kinds["streaming"]
            assert session.room("non_streaming") == session.slots - kinds["non_streaming"]

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
        view = simulation.core.view
        assert not view.jobs
        assert view.active == view.waiting == 0
        for session in view.sessions.values():
            assert not session.outstanding and not session.counting


class PatientStreams(DispatchMachine):
    stream_wait_s = 6.0


TestDispatch = DispatchMachine.TestCase
TestPatientStreams = PatientStreams.TestCase
TestDispatch.settings = settings(
    max_examples=examples(150),
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
TestPatientStreams.settings = settings(TestDispatch.settings, max_examples=examples(60))

"""One plain story per test: admission, deadlines, cancels, losses."""

from __future__ import annotations

import pytest

from gateway.dispatch.core.dispatcher import Send
from gateway.dispatch.core.jobs import Phase
from gateway.dispatch.core.sessions import HEARTBEAT_S, LEASE_S, MISSED_HEARTBEATS
from gateway.errors import (
    DeadlinePassed,
    InvalidRequest,
    NotFound,
    NoWorker,
    QueueFull,
    WorkerFailed,
)
from shared.messages import Delta, Deltas, Goodbye, Heartbeat, Hello, Identify, Rejected
from tests.gateway.dispatch.core.simulation import Client, SimulatedWorker, Simulation

WHOLE = list(range(8))


def one_worker(**slots: int) -> tuple[Simulation, SimulatedWorker]:
    simulation = Simulation()
    return simulation, simulation.connect(SimulatedWorker("a", **slots))


def run(simulation: Simulation, steps: int = 20) -> None:
    for _ in range(steps):
        for worker in list(simulation.workers.values()):
            simulation.step(worker)


def finished(client: Client) -> bool:
    return client.record.outcome == "finished" and client.tokens == WHOLE


def test_first_come_first_served_with_one_slot() -> None:
    simulation, _ = one_worker(slots=1)
    clients = [simulation.request() for _ in range(4)]
    assert [c.record.active for c in clients] == [True, False, False, False]
    run(simulation, 60)
    assert all(finished(client) for client in clients)
    ends = [record.id for record in simulation.ended]
    assert ends == [client.record.id for client in clients]


def test_full_queue_refuses_and_says_when_to_come_back() -> None:
    simulation, _ = one_worker(slots=1)
    for _ in range(5):
        simulation.request()
    with pytest.raises(QueueFull) as refusal:
        simulation.request()
    assert refusal.value.headers == {"Retry-After": "1"}
    assert refusal.value.message == "Too many requests. Service is at capacity."


def test_a_stream_is_refused_rather_than_queued() -> None:
    simulation, _ = one_worker(stream_slots=1)
    simulation.request(stream=True)
    with pytest.raises(QueueFull):
        simulation.request(stream=True)


def test_streams_and_whole_answers_have_slots_of_their_own() -> None:
    simulation, _ = one_worker(slots=1, stream_slots=1)
    whole, stream = simulation.request(), simulation.request(stream=True)
    assert whole.record.phase is stream.record.phase is Phase.RUNNING


def test_a_place_is_taken_before_the_job_is_prepared() -> None:
    simulation, _ = one_worker(slots=1)
    slow = simulation.request(submit=False)
    quick = simulation.request()
    assert slow.record.active and not quick.record.active
    simulation.cancel(slow)
    assert quick.record.phase is Phase.RUNNING


@pytest.mark.parametrize("submit", [True, False])
def test_cancel_in_the_queue_frees_the_place(submit: bool) -> None:
    simulation, _ = one_worker(slots=1)
    simulation.request()
    waiting = simulation.request(submit=submit)
    simulation.cancel(waiting)
    assert simulation.dispatcher.admission.waiting == 0
    simulation.submit(waiting)
    assert waiting.record.outcome == "cancelled"


def test_cancel_while_running_frees_the_worker() -> None:
    simulation, worker = one_worker(slots=1)
    running = simulation.request()
    simulation.step(worker)
    simulation.cancel(running)
    assert not worker.jobs
    assert finished_after(simulation, simulation.request())


def finished_after(simulation: Simulation, client: Client) -> bool:
    run(simulation)
    return finished(client)


def test_deadline_in_the_queue() -> None:
    simulation, _ = one_worker(slots=1)
    simulation.request()
    waiting = simulation.request()
    simulation.pass_time(31)
    assert isinstance(waiting.ends[0], DeadlinePassed)
    assert "queue" in waiting.ends[0].message


def test_deadline_of_a_running_job_stops_the_worker() -> None:
    simulation, worker = one_worker()
    running = simulation.request()
    simulation.pass_time(31)
    assert isinstance(running.ends[0], DeadlinePassed)
    assert not worker.jobs and simulation.dispatcher.admission.active == 0


def test_each_token_gives_a_stream_more_time() -> None:
    simulation, worker = one_worker()
    stream, whole = simulation.request(stream=True), simulation.request()
    for _ in range(4):
        simulation.pass_time(10)
        simulation.step(worker)
    assert stream.record.outcome is None
    assert whole.record.outcome == "timed_out"
    simulation.pass_time(31)
    assert "No token" in str(stream.ends[0])


@pytest.mark.parametrize("steps", [0, 3])
def test_a_dead_workers_job_goes_on_elsewhere_without_gap_or_repeat(steps: int) -> None:
    simulation, first = one_worker()
    client = simulation.request(stream=True)
    for _ in range(steps):
        simulation.step(first)
    second = simulation.connect(SimulatedWorker("b"))
    simulation.kill(first)
    assert second.holds(client.record)
    run(simulation)
    assert finished(client)
    assert client.record.migrations == (1 if steps else 0)


def lose_two_workers(simulation: Simulation, first: SimulatedWorker) -> Client:
    client = simulation.request()
    others = [simulation.connect(SimulatedWorker(name)) for name in "bc"]
    simulation.kill(first)
    simulation.kill(next(w for w in others if w.holds(client.record)))
    assert client.record.phase is Phase.READY
    return client


def test_a_job_that_outlives_two_workers_is_not_tried_again() -> None:
    simulation, first = one_worker()
    client = lose_two_workers(simulation, first)
    for name in "abc":
        if all(worker.name != name for worker in simulation.workers.values()):
            simulation.connect(SimulatedWorker(name))
    assert isinstance(client.ends[0], WorkerFailed)
    assert simulation.dispatcher.admission.active == 0


def test_workers_that_stay_away_have_died() -> None:
    simulation, first = one_worker()
    client = lose_two_workers(simulation, first)
    simulation.pass_time(LEASE_S + 1)
    assert isinstance(client.ends[0], WorkerFailed)


def test_a_lost_workers_slots_stay_on_lease_until_it_is_back() -> None:
    simulation, worker = one_worker()
    simulation.kill(worker)
    waiting = simulation.request(stream=True)
    assert waiting.record.phase is Phase.READY
    simulation.connect(SimulatedWorker("a"))
    assert waiting.record.phase is Phase.RUNNING


def test_after_the_lease_newcomers_are_told_that_nobody_is_there() -> None:
    simulation, worker = one_worker()
    simulation.kill(worker)
    simulation.pass_time(LEASE_S + 1)
    with pytest.raises(NoWorker) as refusal:
        simulation.request()
    assert refusal.value.code == "no_worker"


def test_a_loading_worker_is_announced_with_its_progress() -> None:
    simulation = Simulation()
    hello = Hello(worker="a", models=["m"], slots=1, stream_slots=1, state="loading")
    simulation.membership.message(b"x", hello, simulation.now)
    beat = Heartbeat(state="loading", loaded_fraction=0.4)
    simulation.membership.message(b"x", beat, simulation.now)
    with pytest.raises(NoWorker) as refusal:
        simulation.dispatcher.resolve("m")
    assert refusal.value.code == "loading" and "40%" in refusal.value.message


def test_a_loaded_worker_says_hello_again_with_what_its_model_can_do() -> None:
    simulation = Simulation()
    for state, context in (("loading", None), ("ready", 4096)):
        hello = Hello(
            worker="a", models=["m"], slots=1, stream_slots=1, state=state, context_tokens=context
        )
        simulation.membership.message(b"x", hello, simulation.now)
    (session,) = simulation.registry.sessions.values()
    assert session.hello.context_tokens == 4096
    assert simulation.dispatcher.resolve("m")


def test_two_workers_of_one_name_are_two_workers() -> None:
    simulation = Simulation()
    for instance in ("1", "2"):
        hello = Hello(
            worker="a", instance=instance, models=["m"], slots=1, stream_slots=1, state="ready"
        )
        simulation.membership.message(instance.encode(), hello, simulation.now)
    assert len(simulation.registry.sessions) == 2


def test_unknown_model_names_those_there_are() -> None:
    simulation, _ = one_worker()
    with pytest.raises(NotFound) as refusal:
        simulation.dispatcher.resolve("other")
    assert "m" in refusal.value.message and refusal.value.param == "model"


def test_model_may_be_left_out_only_when_one_is_served() -> None:
    simulation, _ = one_worker()
    assert simulation.dispatcher.resolve(None) == ("m", "m")
    hello = Hello(worker="z", models=["n"], slots=1, stream_slots=1, state="ready")
    simulation.membership.message(b"z", hello, simulation.now)
    with pytest.raises(InvalidRequest):
        simulation.dispatcher.resolve(None)


def test_silence_of_three_heartbeats_is_a_death() -> None:
    simulation, worker = one_worker()
    client = simulation.request()
    worker.deaf = True
    simulation.pass_time(MISSED_HEARTBEATS * HEARTBEAT_S + 0.1)
    assert client.record.phase is Phase.READY
    simulation.connect(SimulatedWorker("b"))
    run(simulation)
    assert finished(client)


def test_active_jobs_without_a_step_are_a_hang() -> None:
    simulation, worker = one_worker()
    client = simulation.request()
    beat = Heartbeat(state="ready", jobs=[client.record.run_id], active=1, last_step_age_s=31)
    simulation.say(worker, beat)
    simulation.membership.tick(simulation.now)
    assert client.record.phase is Phase.READY


def test_a_woken_zombie_is_told_to_drop_what_it_holds() -> None:
    simulation, zombie = one_worker()
    client = simulation.request(stream=True)
    simulation.step(zombie)
    zombie.deaf = True
    simulation.pass_time(4)
    other = simulation.connect(SimulatedWorker("b"))
    assert other.holds(client.record)
    zombie.deaf = False
    simulation.step(zombie)
    assert not zombie.jobs
    run(simulation)
    assert finished(client)


def test_workers_that_were_only_cut_off_are_nobodys_fault() -> None:
    simulation, worker = one_worker()
    client = simulation.request(stream=True)
    for _ in range(3):
        simulation.step(worker)
        worker.deaf = True
        simulation.pass_time(4)
        worker.deaf = False
        simulation.beat(worker)
        assert worker.holds(client.record)
    run(simulation)
    assert finished(client)


def test_jobs_of_a_silent_worker_are_not_sent_to_one_whose_heartbeat_is_overdue() -> None:
    simulation, first = one_worker()
    client = simulation.request(stream=True)
    second = simulation.connect(SimulatedWorker("b"))
    first.deaf = True
    simulation.pass_time(0.5)
    second.deaf = True
    simulation.pass_time(2.6)
    assert client.record.phase is Phase.READY
    second.deaf = False
    simulation.beat(second)
    assert second.holds(client.record)


def test_a_stranger_is_challenged_once_however_much_it_says() -> None:
    simulation, worker = one_worker()
    client = simulation.request(stream=True)
    simulation.registry.sessions.clear()
    messages = [*worker.step(), worker.heartbeat(), *worker.step()]
    for message in messages:
        simulation.membership.message(worker.routing_id, message, simulation.now)
    challenges = [e for e in simulation.dispatcher.effects if isinstance(e, Send)]
    assert [type(challenge.message) for challenge in challenges] == [Identify]
    assert client.record.outcome is None


def test_a_gap_in_the_deltas_is_healed_by_running_it_again() -> None:
    simulation, worker = one_worker()
    client = simulation.request(stream=True)
    simulation.step(worker)
    worker.step()
    simulation.step(worker)
    run(simulation)
    assert finished(client)


def test_a_lost_submit_is_noticed_by_two_heartbeats() -> None:
    simulation, worker = one_worker()
    worker.deaf = True
    client = simulation.request()
    worker.deaf = False
    simulation.beat(worker)
    assert client.record.phase is Phase.DISPATCHED
    simulation.beat(worker)
    run(simulation)
    assert finished(client)


def test_a_draining_worker_hands_its_jobs_over() -> None:
    simulation, worker = one_worker()
    client = simulation.request(stream=True)
    simulation.step(worker)
    other = simulation.connect(SimulatedWorker("b"))
    simulation.say(worker, Heartbeat(state="draining", streams=[client.record.run_id], active=1))
    simulation.say(worker, Rejected(job=client.record.run_id, reason="draining"))
    simulation.say(worker, Goodbye())
    assert other.holds(client.record)
    run(simulation)
    assert finished(client)


def test_slots_that_another_gateway_uses_are_not_promised() -> None:
    simulation, worker = one_worker(stream_slots=2)
    simulation.say(worker, Heartbeat(state="ready", free_slots=1, free_stream_slots=1, active=1))
    simulation.request(stream=True)
    with pytest.raises(QueueFull):
        simulation.request(stream=True)


def test_a_stream_that_another_gateway_overtook_is_refused_not_queued() -> None:
    simulation, worker = one_worker(stream_slots=1)
    worker.stream_slots = 0
    stream = simulation.request(stream=True)
    assert isinstance(stream.ends[0], QueueFull)


def test_a_worker_cannot_speak_about_jobs_that_are_not_its_own() -> None:
    simulation, _ = one_worker()
    client = simulation.request(stream=True)
    liar = simulation.connect(SimulatedWorker("b"))
    simulation.say(liar, Deltas(items=[Delta(client.record.run_id, 0, 0, [9], "lie")]))
    assert client.tokens == []

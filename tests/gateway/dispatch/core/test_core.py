"""One plain story per test: admission, deadlines, cancels, losses."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from gateway.dispatch.core.jobs import CLAIM_S, Phase
from gateway.dispatch.core.sessions import GONE_FOR_NOW_S
from gateway.errors import (
    DeadlinePassed,
    InvalidRequest,
    NotFound,
    NoWorker,
    QueueFull,
)
from scripts.simulated_worker import SimulatedWorker
from shared.messages import (
    Cancelled,
    Control,
    Delta,
    Deltas,
    Goodbye,
    Heartbeat,
    Hello,
    Identify,
    Rejected,
)
from tests.gateway.dispatch.core.simulation import Client, Simulation, finished, one_worker, run


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


def patient(stream_wait_s: float = 5.0, **slots: Any) -> tuple[Simulation, SimulatedWorker]:
    simulation = Simulation(stream_wait_s=stream_wait_s)
    return simulation, simulation.connect(SimulatedWorker("a", **slots))


def test_a_stream_may_wait_in_line() -> None:
    simulation, _ = patient(stream_slots=1)
    clients = [simulation.request(stream=True) for _ in range(4)]
    assert [client.record.active for client in clients] == [True, False, False, False]
    run(simulation, 60)
    assert all(finished(client) for client in clients)
    assert [one.id for one in simulation.ended] == [client.record.id for client in clients]


def test_a_stream_waits_no_longer_than_it_may_and_is_told_to_come_back() -> None:
    simulation, _ = patient(stream_slots=1)
    simulation.request(stream=True)
    waiting = simulation.request(stream=True)
    simulation.pass_time(4.9)
    assert not waiting.ends
    simulation.pass_time(0.2)
    (refusal,) = waiting.ends
    assert isinstance(refusal, QueueFull) and refusal.headers == {"Retry-After": "1"}
    assert simulation.core.view.waiting == 0


def test_a_streams_wait_is_within_its_deadline() -> None:
    simulation, worker = patient(stream_wait_s=1_000.0, stream_slots=1)
    simulation.request(stream=True)
    waiting = simulation.request(stream=True)
    for _ in range(7):
        simulation.step(worker)
        simulation.pass_time(5.0)
    (refusal,) = waiting.ends
    assert isinstance(refusal, DeadlinePassed)


def test_streams_and_others_share_the_places_in_line() -> None:
    simulation, _ = patient(slots=1, stream_slots=1)
    for stream in (False, True, False, True, False, True):
        simulation.request(stream=stream)
    assert simulation.core.view.waiting == 4
    for stream in (False, True):
        with pytest.raises(QueueFull):
            simulation.request(stream=stream)


def test_a_stream_that_leaves_the_line_frees_its_place() -> None:
    simulation, _ = patient(stream_slots=1)
    running, waiting, last = (simulation.request(stream=True) for _ in range(3))
    simulation.cancel(waiting)
    simulation.cancel(running)
    assert last.phase() is Phase.RUNNING and simulation.core.view.waiting == 0


def test_a_stream_whose_slot_went_to_another_gateway_waits_for_the_next() -> None:
    simulation, worker = patient(stream_slots=1)
    stream = simulation.request(stream=True)
    run_id = stream.record.run_id
    worker.drop(run_id)
    simulation.say(worker, Rejected(job=run_id, reason="no_slot"))
    assert stream.phase() is Phase.READY and not stream.ends
    simulation.beat(worker)
    assert stream.phase() is Phase.RUNNING


def test_streams_and_others_have_slots_of_their_own() -> None:
    simulation, _ = one_worker(slots=1, stream_slots=1)
    other, stream = simulation.request(), simulation.request(stream=True)
    assert other.phase() is stream.phase() is Phase.RUNNING


def test_a_place_is_taken_before_the_job_is_prepared() -> None:
    simulation, _ = one_worker(slots=1)
    slow = simulation.request(submit=False)
    quick = simulation.request()
    assert slow.record.active and not quick.record.active
    simulation.cancel(slow)
    assert quick.phase() is Phase.RUNNING


def test_a_slot_does_not_wait_for_slow_pictures_while_somebody_is_ready() -> None:
    simulation, worker = one_worker(slots=1)
    slow, slower = simulation.request(submit=False), simulation.request(submit=False)
    first, second = simulation.request(), simulation.request()
    simulation.pass_time(0.9 * CLAIM_S)
    assert slow.record.active, "pictures usually are there by then"
    simulation.pass_time(0.2 * CLAIM_S)
    assert first.phase() is Phase.RUNNING
    assert simulation.core.view.waiting == 3
    simulation.submit(slow)
    finish(simulation, worker, first)
    assert slow.phase() is Phase.RUNNING, "who came first is served first, once it is ready"
    finish(simulation, worker, slow)
    assert second.phase() is Phase.RUNNING
    finish(simulation, worker, second)
    assert slower.record.active, "nobody else wants it"


def finish(simulation: Simulation, worker: SimulatedWorker, client: Client) -> None:
    while not client.ends:
        simulation.step(worker)


@pytest.mark.parametrize("submit", [True, False])
def test_cancel_in_the_queue_frees_the_place(submit: bool) -> None:
    simulation, _ = one_worker(slots=1)
    simulation.request()
    waiting = simulation.request(submit=submit)
    simulation.cancel(waiting)
    assert simulation.core.view.waiting == 0
    simulation.submit(waiting)
    assert waiting.record.outcome == "cancelled"


def test_cancel_while_running_frees_the_worker() -> None:
    simulation, worker = one_worker(slots=1)
    running = simulation.request()
    simulation.step(worker)
    simulation.cancel(running)
    assert not worker.runs
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
    assert not worker.runs and simulation.core.view.active == 0


def test_a_worker_may_be_the_first_to_say_that_time_is_over() -> None:
    simulation, worker = one_worker()
    client = simulation.request()
    simulation.now = client.record.deadline_at
    simulation.say(worker, Cancelled(job=client.record.run_id))
    assert isinstance(client.ends[0], DeadlinePassed)
    assert (client.record.runs, client.record.outcome) == (1, "timed_out")


def test_each_token_gives_a_stream_more_time() -> None:
    simulation, worker = one_worker()
    stream, other = simulation.request(stream=True), simulation.request()
    for _ in range(4):
        simulation.pass_time(10)
        simulation.step(worker)
    assert stream.record.outcome is None
    assert other.record.outcome == "timed_out"
    simulation.pass_time(31)
    assert "No token" in str(stream.ends[0])


HELLO = Hello(worker="a", models=["m"], slots=1, stream_slots=1, state="ready")


def test_a_loading_worker_is_announced_with_its_progress() -> None:
    simulation = Simulation()
    worker = simulation.connect(SimulatedWorker("a"), replace(HELLO, state="loading"))
    simulation.say(worker, Heartbeat(state="loading", loaded_fraction=0.4))
    with pytest.raises(NoWorker) as refusal:
        simulation.request()
    assert refusal.value.code == "loading" and "40%" in refusal.value.message


def test_a_loaded_worker_says_hello_again_with_what_its_model_can_do() -> None:
    simulation = Simulation()
    worker = simulation.connect(SimulatedWorker("a"), replace(HELLO, state="loading"))
    simulation.say(worker, replace(HELLO, context_tokens=4096))
    (session,) = simulation.core.view.sessions.values()
    assert session.hello.context_tokens == 4096
    assert simulation.request().phase() is Phase.RUNNING


def test_two_workers_of_one_name_are_two_workers() -> None:
    simulation = Simulation()
    for instance in ("1", "2"):
        simulation.connect(SimulatedWorker("a"), replace(HELLO, instance=instance))
    assert len(simulation.core.view.sessions) == 2


def test_unknown_model_names_those_there_are() -> None:
    simulation, _ = one_worker()
    with pytest.raises(NotFound) as refusal:
        simulation.request(model="other")
    assert "m" in refusal.value.message and refusal.value.param == "model"


def test_a_model_whose_only_worker_goes_is_missed_and_not_unknown() -> None:
    simulation, worker = one_worker()
    simulation.connect(SimulatedWorker("z", model="n"))
    worker.state = "draining"
    simulation.say(worker, worker.heartbeat())
    for leave in (False, True):
        if leave:
            simulation.say(worker, Goodbye())
        with pytest.raises(NoWorker) as missed:
            simulation.request(model="m")
        assert missed.value.headers["Retry-After"]
    simulation.kill(worker)
    simulation.pass_time(GONE_FOR_NOW_S + 1)
    with pytest.raises(NotFound):
        simulation.request(model="m")


def test_model_may_be_left_out_only_when_one_is_served() -> None:
    simulation, _ = one_worker()
    assert simulation.request(model=None).record.pool == "m"
    simulation.connect(SimulatedWorker("z"), replace(HELLO, worker="z", models=["n"]))
    with pytest.raises(InvalidRequest):
        simulation.request(model=None)


def test_a_stranger_is_challenged_once_however_much_it_says() -> None:
    simulation = Simulation()
    for _ in range(3):
        simulation.arrive(b"stranger", Heartbeat(state="ready"))
    assert [(send.routing_id, type(send.message)) for send in simulation.sent] == [
        (b"stranger", Identify)
    ]
    assert simulation.core.view.dropped["unknown_peer"] == 3


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


def test_a_late_rejection_of_a_cancelled_job_makes_room() -> None:
    simulation, worker = one_worker(slots=1)
    cancelled, ready = simulation.request(), simulation.request()
    simulation.cut(worker)
    simulation.cancel(cancelled)
    assert ready.phase() is Phase.READY
    simulation.mend(worker)
    worker.runs.clear()
    simulation.say(worker, Rejected(job=cancelled.record.run_id, reason="draining"))
    assert worker.holds(ready.record.id)


def test_an_operators_order_reaches_the_worker_of_that_name() -> None:
    simulation, worker = one_worker()
    simulation.order("a", "drain")
    simulation.order("nobody", "drain")
    orders = [send for send in simulation.sent if isinstance(send.message, Control)]
    assert [send.routing_id for send in orders] == [worker.routing_id]

"""Workers that come back as another or do not do what they should; a gateway that stood still."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec
import pytest

from gateway.dispatch.core.jobs import MAX_FRUITLESS_RUNS, Phase
from gateway.dispatch.core.sessions import LEASE_S
from gateway.errors import NotFound, QueueFull, WorkerFailed
from scripts.simulated_worker import SimulatedWorker
from shared.messages import Cancelled, Delta, Deltas, Goodbye, Heartbeat, Rejected, RejectReason
from tests.gateway.dispatch.core.simulation import (
    HUNG_S,
    Client,
    Simulation,
    finished,
    one_worker,
    run,
)


def test_a_job_is_not_blamed_for_a_worker_that_left_in_order() -> None:
    simulation, worker = one_worker()
    client = simulation.request()
    for name in "bcd":
        following = simulation.connect(SimulatedWorker(name))
        simulation.say(worker, Goodbye())
        assert following.holds(client.record.id)
        worker = following


# --- a worker that comes back as another -----------------------------------------------------


@pytest.mark.parametrize("leaves", [True, False])
@pytest.mark.parametrize("instance", ["", "its second start"])
def test_who_waits_for_a_model_that_is_gone_is_told_at_once(leaves: bool, instance: str) -> None:
    simulation, worker = one_worker()
    running = simulation.request()
    waiting = simulation.request()
    preparing = simulation.request(submit=False)
    if leaves:
        simulation.say(worker, Goodbye())
    simulation.kill(worker)
    back = SimulatedWorker("a")
    other = msgspec.structs.replace(back.hello(), models=["other"], instance=instance)
    simulation.connect(back, other)
    for client in (running, waiting, preparing):
        assert isinstance(client.ends[0], NotFound), client
    assert simulation.core.view.active == simulation.core.view.waiting == 0


def test_who_waits_for_a_model_that_others_serve_goes_on_waiting() -> None:
    simulation, worker = one_worker()
    simulation.connect(SimulatedWorker("b"))
    clients = [simulation.request() for _ in range(4)]
    simulation.kill(worker)
    back = SimulatedWorker("a")
    simulation.connect(back, msgspec.structs.replace(back.hello(), models=["other"]))
    run(simulation, 50)
    assert all(map(finished, clients))


# --- a gateway that stood still --------------------------------------------------------------


@pytest.mark.parametrize("pid", [0, 7])
@pytest.mark.parametrize("made_up_first", [True, False])
def test_a_gateway_that_stood_still_finds_its_answers_unharmed(
    pid: int, made_up_first: bool
) -> None:
    """libzmq gives what it delivers of connections that newer ones have replaced made-up ids."""
    simulation, worker = one_worker(pid=pid, slots=2)
    clients = [simulation.request() for _ in range(2)]
    simulation.step(worker)
    worker.runs.clear()  # it has heard nothing of this gateway for too long
    simulation.stand_still(20)
    made_up = [b"\0made up %d" % number for number in range(3)]
    ids = [worker.routing_id] * 30
    ids = made_up + ids if made_up_first else ids + made_up
    simulation.arrive_together([(routing_id, worker.hello()) for routing_id in ids])
    run(simulation)
    assert all(map(finished, clients))
    assert [client.record.deaths for client in clients] == [0, 0]


def test_a_process_that_is_back_under_another_id_has_not_died() -> None:
    simulation, worker = one_worker(pid=7)
    client = simulation.request()
    for _ in range(4):
        simulation.step(worker)
        simulation.kill(worker)
        assert client.phase() is Phase.READY
        worker = simulation.connect(SimulatedWorker("a", pid=7))
    run(simulation)
    assert finished(client)


def test_a_lease_does_not_run_out_while_the_gateway_stands_still() -> None:
    simulation, worker = one_worker()
    simulation.kill(worker)
    client = simulation.request()
    simulation.stand_still(LEASE_S + 1)
    assert simulation.request(stream=True).phase() is Phase.READY
    assert client.phase() is Phase.READY


# --- workers that do not do what they should --------------------------------------------------


def hang(simulation: Simulation, worker: SimulatedWorker) -> None:
    """It makes no step any more from the moment that it has its jobs."""
    simulation.now += HUNG_S
    beat = Heartbeat(state="ready", jobs=list(worker.runs), active=1, last_step_age_s=HUNG_S)
    simulation.say(worker, beat)
    simulation.tick()


def test_a_hang_is_a_death_though_the_worker_says_hello_again() -> None:
    simulation, worker = one_worker(pid=7)
    client = simulation.request()
    hang(simulation, worker)
    worker.drop(client.record.run_id)
    simulation.say(worker, worker.hello())
    assert client.record.deaths == 1
    assert client.phase() is Phase.READY, "a worker that hangs gets no job"
    other = simulation.connect(SimulatedWorker("b"))
    assert other.holds(client.record.id)
    hang(simulation, other)
    assert isinstance(client.ends[0], WorkerFailed)


def test_a_worker_that_hung_is_used_again_when_it_makes_progress() -> None:
    simulation, worker = one_worker()
    client = simulation.request()
    hang(simulation, worker)
    simulation.say(worker, worker.hello())
    simulation.beat(worker)
    run(simulation)
    assert finished(client)


def runs_until_the_end(client: Client) -> Iterator[str]:
    """The job's run, whenever it is asked for; there is an end to them."""
    while not client.ends:
        assert client.record.runs <= MAX_FRUITLESS_RUNS
        yield client.record.run_id


def test_one_token_a_run_does_not_keep_a_job_going() -> None:
    simulation, liar = one_worker()
    client = simulation.request()
    for run_id in runs_until_the_end(client):
        liar.drop(run_id)
        simulation.say(liar, Deltas(items=[Delta(run_id, 0, 0, [1], "x")]))
        simulation.say(liar, Cancelled(job=run_id))
    assert isinstance(client.ends[0], WorkerFailed)


@pytest.mark.parametrize(("reason", "error"), [("no_slot", QueueFull), ("draining", WorkerFailed)])
def test_a_job_that_is_sent_back_again_and_again_ends(
    reason: RejectReason, error: type[Exception]
) -> None:
    simulation, liar = one_worker()
    client = simulation.request()
    for run_id in runs_until_the_end(client):
        liar.drop(run_id)
        simulation.say(liar, Rejected(job=run_id, reason=reason))
        simulation.beat(liar)
    assert isinstance(client.ends[0], error)


def test_a_long_answer_may_move_often() -> None:
    simulation, worker = one_worker()
    worker.answer_tokens = MAX_FRUITLESS_RUNS + 5
    client = simulation.request(stream=True)
    for _ in range(MAX_FRUITLESS_RUNS + 2):
        simulation.step(worker)
        for _ in range(6):
            simulation.pass_time(1)
        run_id = client.record.run_id
        worker.drop(run_id)
        simulation.say(worker, Rejected(job=run_id, reason="draining"))
        simulation.beat(worker)
    run(simulation)
    assert client.record.outcome == "finished"

"""One plain story per test: workers lost, cut off, hung, leaving; and who is to blame."""

from __future__ import annotations

import msgspec
import pytest

from gateway.dispatch.core.failover import ON_ITS_WAY_S
from gateway.dispatch.core.jobs import Phase
from gateway.dispatch.core.sessions import HEARTBEAT_S, LEASE_S, MISSED_HEARTBEATS
from gateway.errors import NoWorker, WorkerFailed
from scripts.simulated_worker import SimulatedWorker
from shared.messages import Goodbye, Heartbeat, Rejected
from tests.gateway.dispatch.core.simulation import (
    HUNG_S,
    Client,
    Simulation,
    finished,
    one_worker,
    run,
)


@pytest.mark.parametrize("steps", [0, 3])
def test_a_dead_workers_job_goes_on_elsewhere_without_gap_or_repeat(steps: int) -> None:
    simulation, first = one_worker()
    client = simulation.request(stream=True)
    for _ in range(steps):
        simulation.step(first)
    second = simulation.connect(SimulatedWorker("b"))
    simulation.kill(first)
    assert second.holds(client.record.id)
    run(simulation)
    assert finished(client)
    assert client.record.migrations == (1 if steps else 0)


def lose_two_workers(simulation: Simulation, first: SimulatedWorker) -> Client:
    client = simulation.request()
    others = [simulation.connect(SimulatedWorker(name)) for name in "bc"]
    simulation.kill(first)
    simulation.kill(next(w for w in others if w.holds(client.record.id)))
    assert client.phase() is Phase.READY
    return client


def test_a_job_that_outlives_two_workers_is_not_tried_again() -> None:
    simulation, first = one_worker()
    client = lose_two_workers(simulation, first)
    for name in "abc":
        if all(worker.name != name for worker in simulation.workers.values()):
            simulation.connect(SimulatedWorker(name))
    assert isinstance(client.ends[0], WorkerFailed)
    assert simulation.core.view.active == 0


def test_workers_that_stay_away_have_died() -> None:
    simulation, first = one_worker()
    client = lose_two_workers(simulation, first)
    simulation.pass_time(LEASE_S + 1)
    assert isinstance(client.ends[0], WorkerFailed)


def test_a_lost_workers_slots_stay_on_lease_until_it_is_back() -> None:
    simulation, worker = one_worker()
    simulation.kill(worker)
    waiting = simulation.request(stream=True)
    assert waiting.phase() is Phase.READY
    simulation.connect(SimulatedWorker("a"))
    assert waiting.phase() is Phase.RUNNING


def test_after_the_lease_newcomers_are_told_that_nobody_is_there() -> None:
    simulation, worker = one_worker()
    simulation.kill(worker)
    simulation.pass_time(LEASE_S + 1)
    with pytest.raises(NoWorker) as refusal:
        simulation.request()
    assert refusal.value.code == "no_worker"


def test_silence_of_three_heartbeats_is_a_death() -> None:
    simulation, worker = one_worker()
    client = simulation.request()
    simulation.cut(worker)
    simulation.pass_time(MISSED_HEARTBEATS * HEARTBEAT_S + 0.1)
    assert client.phase() is Phase.READY
    simulation.connect(SimulatedWorker("b"))
    run(simulation)
    assert finished(client)


def test_active_jobs_without_a_step_are_a_hang() -> None:
    simulation, worker = one_worker()
    client = simulation.request()
    beat = Heartbeat(state="ready", jobs=[client.record.run_id], active=1, last_step_age_s=HUNG_S)
    simulation.say(worker, beat)
    simulation.tick()
    assert client.phase() is Phase.READY


def test_a_woken_zombie_is_told_to_drop_what_it_holds() -> None:
    simulation, zombie = one_worker()
    client = simulation.request(stream=True)
    simulation.step(zombie)
    simulation.cut(zombie)
    simulation.pass_time(4)
    other = simulation.connect(SimulatedWorker("b"))
    assert other.holds(client.record.id)
    simulation.mend(zombie)
    simulation.step(zombie)
    assert not zombie.runs
    run(simulation)
    assert finished(client)


def test_workers_that_were_only_cut_off_are_nobodys_fault() -> None:
    simulation, worker = one_worker()
    client = simulation.request(stream=True)
    for _ in range(3):
        simulation.step(worker)
        simulation.cut(worker)
        simulation.pass_time(4)
        simulation.mend(worker)
        simulation.beat(worker)
        assert worker.holds(client.record.id)
    run(simulation)
    assert finished(client)


def test_jobs_of_a_silent_worker_are_not_sent_to_one_whose_heartbeat_is_overdue() -> None:
    simulation, first = one_worker()
    client = simulation.request(stream=True)
    second = simulation.connect(SimulatedWorker("b"))
    simulation.cut(first)
    simulation.pass_time(0.5)
    simulation.cut(second)
    simulation.pass_time(2.6)
    assert client.phase() is Phase.READY
    simulation.mend(second)
    simulation.beat(second)
    assert second.holds(client.record.id)


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
    simulation.cut(worker)
    client = simulation.request()
    simulation.mend(worker)
    for _ in range(2):
        assert client.phase() is Phase.DISPATCHED
        simulation.pass_time(ON_ITS_WAY_S)
    run(simulation)
    assert finished(client)


def test_a_job_that_is_still_on_its_way_is_not_sent_twice() -> None:
    simulation, worker = one_worker()
    simulation.cut(worker)
    client = simulation.request()
    simulation.mend(worker)
    for _ in range(20):
        simulation.beat(worker)
    simulation.pass_time(ON_ITS_WAY_S - 0.1)
    assert (client.record.runs, client.phase()) == (1, Phase.DISPATCHED)


def test_a_draining_worker_hands_its_jobs_over() -> None:
    simulation, worker = one_worker()
    client = simulation.request(stream=True)
    simulation.step(worker)
    other = simulation.connect(SimulatedWorker("b"))
    simulation.say(worker, Heartbeat(state="draining", streams=[client.record.run_id], active=1))
    simulation.say(worker, Rejected(job=client.record.run_id, reason="draining"))
    simulation.say(worker, Goodbye())
    assert other.holds(client.record.id)
    run(simulation)
    assert finished(client)


def test_a_cleared_suspicion_lets_the_ready_jobs_go() -> None:
    simulation, worker = one_worker()
    simulation.cut(worker)
    simulation.pass_time(2)
    simulation.mend(worker)
    client = simulation.request()
    assert client.phase() is Phase.READY
    simulation.stand_still(4)
    simulation.beat(worker)
    assert worker.holds(client.record.id)


def test_a_job_is_not_blamed_for_the_death_of_a_worker_that_never_got_it() -> None:
    simulation, first = one_worker(slots=2)
    clients = [simulation.request() for _ in range(2)]
    simulation.kill(first)
    simulation.arrive(b"gone", SimulatedWorker("b", slots=2).hello())
    assert [client.record.runs for client in clients] == [2, 2]
    third = simulation.connect(SimulatedWorker("c", slots=2))
    assert all(third.holds(client.record.id) for client in clients)


@pytest.mark.parametrize("silent_s", [0.0, 0.5, 1.2, 1.5])
def test_a_job_is_not_blamed_for_a_worker_that_has_not_spoken_since(silent_s: float) -> None:
    """It may have vanished before; a whole machine and its supervisor leave nobody to tell."""
    simulation, worker = one_worker()
    simulation.cut(worker)
    simulation.pass_time(silent_s)
    client = simulation.request()
    assert client.phase() is Phase.DISPATCHED
    simulation.pass_time(MISSED_HEARTBEATS * HEARTBEAT_S + 0.1)
    simulation.pass_time(LEASE_S + 1)
    assert (client.record.deaths, client.record.lost) == (0, {})


@pytest.mark.parametrize("sign", ["accepted", "tokens", "heartbeat"])
def test_a_job_may_be_to_blame_for_a_worker_that_fell_silent_with_it(sign: str) -> None:
    simulation, worker = one_worker()
    client = simulation.request()
    if sign == "heartbeat":
        simulation.beat(worker)
    else:
        simulation.step(worker)
    if sign == "tokens":
        simulation.step(worker)
    simulation.cut(worker)
    simulation.pass_time(MISSED_HEARTBEATS * HEARTBEAT_S + 0.1)
    simulation.pass_time(LEASE_S + 1)
    assert client.record.deaths == 1


def test_a_job_may_be_to_blame_for_a_worker_that_breaks_off_while_it_is_well() -> None:
    simulation, worker = one_worker()
    simulation.cut(worker)  # its process dies of the job, before it has said a word of it
    client = simulation.request()
    simulation.now += 0.5
    simulation.kill(worker)
    simulation.pass_time(LEASE_S + 1)
    assert client.record.deaths == 1


def test_machines_that_vanish_one_after_the_other_end_no_job() -> None:
    """Each just before the job is sent there; it waits until nobody is expected back."""
    simulation, first = one_worker()
    second = simulation.connect(SimulatedWorker("b", slots=0))
    simulation.cut(first)
    client = simulation.request()
    simulation.pass_time(MISSED_HEARTBEATS * HEARTBEAT_S + 0.1)
    second.slots = 1
    simulation.cut(second)
    simulation.say(second, second.hello())
    simulation.pass_time(0.5)
    assert (client.record.session, client.phase()) == (second.routing_id, Phase.DISPATCHED)
    third = simulation.connect(SimulatedWorker("c"))
    simulation.pass_time(MISSED_HEARTBEATS * HEARTBEAT_S)
    assert not third.holds(client.record.id)
    simulation.pass_time(LEASE_S)
    run(simulation)
    assert finished(client)


def test_a_job_that_froze_a_worker_before_it_could_speak_is_told_on_by_its_supervisor() -> None:
    simulation, worker = one_worker()
    simulation.cut(worker)
    client = simulation.request()
    simulation.pass_time(MISSED_HEARTBEATS * HEARTBEAT_S + 0.1)
    assert client.record.session is None
    simulation.kill(worker)
    anew = SimulatedWorker("a")
    hello = msgspec.structs.replace(anew.hello(), died_with=[f"{client.record.id}.1"])
    simulation.connect(anew, hello)
    assert client.record.deaths == 1


@pytest.mark.parametrize("had", [True, False, None])
def test_a_worker_that_starts_anew_says_which_jobs_it_died_with(had: bool | None) -> None:
    simulation, worker = one_worker()
    client = simulation.request()
    for _ in range(3):
        died_with = {True: [client.record.run_id], False: ["another's"], None: None}[had]
        simulation.kill(worker)
        worker = SimulatedWorker("a")
        simulation.connect(worker, msgspec.structs.replace(worker.hello(), died_with=died_with))
    assert client.record.deaths == (0 if had is False else 2)
    assert bool(client.ends) is (had is not False)


@pytest.mark.parametrize(("after_s", "blamed"), [(0.0, 1), (0.8, 1), (1.2, 0), (9.0, 0)])
def test_a_job_that_comes_to_an_engine_that_hangs_did_not_hang_it(
    after_s: float, blamed: int
) -> None:
    simulation, worker = one_worker(slots=2)
    culprit = simulation.request()
    hung_at = simulation.now
    newcomer = None
    while not culprit.record.deaths:
        age_s = simulation.now - hung_at
        beat = msgspec.structs.replace(worker.heartbeat(), last_step_age_s=age_s)
        simulation.say(worker, beat)
        simulation.tick()
        if newcomer is None and age_s >= after_s:
            newcomer = simulation.request()
        simulation.now += 0.1
    assert newcomer is not None
    assert newcomer.record.deaths == blamed

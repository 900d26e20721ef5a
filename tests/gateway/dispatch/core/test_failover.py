"""One plain story per test: workers lost, cut off, hung, leaving; and who is to blame."""

from __future__ import annotations

import msgspec
import pytest

from gateway.dispatch.core.failover import ON_ITS_WAY_S
from gateway.dispatch.core.jobs import MAX_FRUITLESS_RUNS, Phase
from gateway.dispatch.core.sessions import HEARTBEAT_S, LEASE_S, MISSED_HEARTBEATS
from gateway.errors import NotFound, NoWorker, QueueFull, WorkerFailed
from scripts.simulated_worker import STALL_TIMEOUT_S, SimulatedWorker
from shared.messages import Cancelled, Delta, Deltas, Goodbye, Heartbeat, Rejected, RejectReason
from tests.gateway.dispatch.core.simulation import Client, Simulation, finished, one_worker, run

HUNG_S = STALL_TIMEOUT_S + 1


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


def test_one_token_a_run_does_not_keep_a_job_going() -> None:
    simulation, liar = one_worker()
    client = simulation.request()
    while not client.ends:
        assert client.record.runs <= MAX_FRUITLESS_RUNS
        run_id = client.record.run_id
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
    while not client.ends:
        assert client.record.runs <= MAX_FRUITLESS_RUNS
        run_id = client.record.run_id
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

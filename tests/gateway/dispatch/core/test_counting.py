"""Counting a prompt's tokens: outside the slots, bounded, and not lost with a worker."""

from __future__ import annotations

import pytest

from gateway.dispatch.core.admission import MAX_COUNTS
from gateway.dispatch.core.effects import Send
from gateway.dispatch.core.jobs import Phase
from gateway.dispatch.core.sessions import MAX_COUNTS_ASKED
from gateway.dispatch.stats.statistics import Statistics
from gateway.errors import DeadlinePassed, InvalidRequest, NoWorker, QueueFull, WorkerFailed
from scripts.simulated_worker import PROMPT_TOKENS, SimulatedWorker
from shared.messages import (
    Accepted,
    Cancel,
    CountedTokens,
    CountTokens,
    Done,
    Failed,
    Heartbeat,
    Rejected,
    Timings,
    Usage,
)
from tests.gateway.dispatch.core.simulation import Client, Simulation


def desk(*names: str) -> tuple[Simulation, list[SimulatedWorker]]:
    """Workers that only count: they have no slots."""
    simulation = Simulation()
    return simulation, [simulation.connect(SimulatedWorker(name, 0, 0)) for name in names]


def ask(simulation: Simulation, number: int = 1) -> list[Client]:
    return [simulation.request(only_counts=True) for _ in range(number)]


def asked(simulation: Simulation) -> list[Send]:
    return [send for send in simulation.sent if isinstance(send.message, CountTokens)]


def test_a_count_needs_no_slot_and_brings_its_images() -> None:
    simulation, (worker,) = desk("a")
    client = simulation.request(only_counts=True, images=[b"png"])
    (send,) = asked(simulation)
    assert send.images == [b"png"]
    simulation.step(worker)
    assert client.accepted == [Accepted(job=client.record.id, prompt_tokens=PROMPT_TOKENS)]
    assert client.record.outcome == "finished"
    simulation.say(worker, CountedTokens(client.record.run_id, 99))
    assert len(client.accepted) == 1


def test_a_count_is_no_request_in_the_statistics() -> None:
    simulation, (worker,) = desk("a")
    ask(simulation)
    simulation.step(worker)
    statistics = Statistics()
    for record in simulation.ended:
        statistics.ended(record)
    assert simulation.ended and not statistics.recent
    assert simulation.core.view.active == 0


def test_a_worker_is_asked_about_a_few_at_once_and_the_rest_wait_in_order() -> None:
    simulation, workers = desk("a", "b")
    clients = ask(simulation, 2 * MAX_COUNTS_ASKED + 2)
    assert [len(worker.prompts) for worker in workers] == [MAX_COUNTS_ASKED] * 2
    simulation.say(workers[0], CountedTokens(workers[0].prompts.pop(), 1))
    assert workers[0].prompts[-1] == clients[2 * MAX_COUNTS_ASKED].record.run_id
    assert clients[-1].phase() is Phase.READY


def test_there_is_room_for_so_many_and_no_more() -> None:
    simulation, _ = desk("a")
    clients = ask(simulation, MAX_COUNTS)
    with pytest.raises(QueueFull):
        ask(simulation)
    simulation.cancel(clients[-1])
    ask(simulation)


def test_whoever_leaves_is_not_told_and_the_worker_stays_busy_until_it_answers() -> None:
    simulation, (worker,) = desk("a")
    client, *_ = ask(simulation, MAX_COUNTS_ASKED)
    simulation.cancel(client)
    simulation.cancel(client)
    (late,) = ask(simulation)
    assert late.phase() is Phase.READY
    simulation.say(worker, CountedTokens(worker.prompts.pop(0), 1))
    assert late.phase() is Phase.DISPATCHED
    assert not client.accepted and not client.ends
    assert not any(isinstance(send.message, Cancel) for send in simulation.sent)


def test_a_count_goes_on_at_another_worker_once() -> None:
    simulation, (first, second) = desk("a", "b")
    (client,) = ask(simulation)
    simulation.kill(first)
    assert second.prompts == [client.record.run_id]
    simulation.say(second, CountedTokens(f"{client.record.id}.1", 1))
    assert client.accepted == []
    simulation.kill(second)
    assert isinstance(client.ends[0], WorkerFailed)


def test_a_count_that_could_not_be_sent_goes_elsewhere_at_once_and_is_not_tried_less() -> None:
    simulation, workers = desk("a", "b", "c", "d")
    for worker in workers[:3]:
        simulation.vanish(worker)
    (client,) = ask(simulation)
    assert workers[3].prompts == [client.record.run_id]


def test_a_rejected_count_waits_for_the_next_tick() -> None:
    simulation, (worker,) = desk("a")
    (client,) = ask(simulation)
    for number in (1, 2, 3):
        assert worker.prompts == [f"{client.record.id}.{number}"]
        simulation.say(worker, Rejected(job=worker.prompts.pop(), reason="no_slot"))
        assert worker.prompts == []
        simulation.tick()
    assert client.ends == []


def test_what_fails_is_the_clients_error() -> None:
    simulation, (worker,) = desk("a")
    (client,) = ask(simulation)
    run_id = worker.prompts.pop()
    simulation.say(worker, Failed(run_id, code="invalid_image", message="No.", param="messages"))
    (error,) = client.ends
    assert isinstance(error, InvalidRequest) and error.code == "invalid_image"


def test_a_count_that_takes_too_long_is_given_up() -> None:
    simulation, _ = desk("a")
    clients = ask(simulation, MAX_COUNTS_ASKED + 1)
    simulation.pass_time(31)
    for client in (clients[0], clients[-1]):
        assert isinstance(client.ends[0], DeadlinePassed)
        assert "counted" in client.ends[0].message


def test_an_older_worker_is_not_asked() -> None:
    simulation = Simulation()
    simulation.connect(SimulatedWorker("a", counts=False))
    (client,) = ask(simulation)
    assert isinstance(client.ends[0], NoWorker)
    newer = simulation.connect(SimulatedWorker("b"))
    (client,) = ask(simulation)
    assert newer.prompts == [client.record.run_id]


def test_a_heartbeat_does_not_list_counts_and_misses_none() -> None:
    simulation, (worker,) = desk("a")
    (client,) = ask(simulation)
    for _ in range(3):
        simulation.say(worker, Heartbeat(state="ready"))
    assert client.record.runs == 1


def test_only_the_number_is_an_answer_to_a_count() -> None:
    simulation, (worker, other) = desk("a", "b")
    (client,) = ask(simulation)
    run_id = client.record.run_id
    simulation.say(worker, Accepted(run_id, prompt_tokens=1))
    simulation.say(other, CountedTokens(run_id, 1))
    simulation.say(other, Failed(run_id, code="internal_error", message="x"))
    assert client.phase() is Phase.DISPATCHED and not client.accepted and not client.ends
    usage = Usage(prompt_tokens=1, completion_tokens=1)
    for _ in range(2):
        holder = next(w for w in (worker, other) if client.record.run_id in w.prompts)
        simulation.say(holder, Done(client.record.run_id, usage=usage, timings=Timings()))
    assert isinstance(client.ends[0], WorkerFailed)


def test_a_number_is_no_answer_to_a_generation() -> None:
    simulation = Simulation()
    worker = simulation.connect(SimulatedWorker("a"))
    client = simulation.request()
    simulation.say(worker, CountedTokens(client.record.run_id, 1))
    assert client.phase() is Phase.RUNNING
    (session,) = simulation.core.view.sessions.values()
    assert client.record.run_id in session.outstanding


def test_counts_that_were_lost_on_their_way_do_not_end_counting() -> None:
    simulation, (worker,) = desk("a")
    lost = ask(simulation, MAX_COUNTS_ASKED)
    worker.prompts.clear()
    waiting = ask(simulation)
    simulation.pass_time(2.0)
    for _ in range(3):
        simulation.pass_time(1.0)
    for _ in range(2):
        simulation.step(worker)
    assert all(client.accepted for client in (*lost, *waiting))


def test_a_worker_that_does_not_say_what_it_counts_is_believed_to_count() -> None:
    simulation, (worker,) = desk("a")
    (client,) = ask(simulation)
    for _ in range(5):
        simulation.say(worker, Heartbeat(state="ready"))
    assert len(asked(simulation)) == 1
    simulation.step(worker)
    assert client.accepted

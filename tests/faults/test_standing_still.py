"""Processes that are stopped and go on, as when a machine is suspended: nobody has died."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Iterator

import httpx
import pytest

from tests.faults.test_fleet import SECONDS
from tests.processes import Service, Tier, answer_text, serving
from tests.scripted import words
from tests.waiting import await_condition

WORKER = ("--engine", "scripted", "--max-concurrency", "8", "--stall-timeout", "3")
STOPPED_S = 40.0 if SECONDS > 30 else 12.0
"""More than a worker's timeout (3 s), ZeroMQ's (6 s) and the engine's (3 s)."""


@contextlib.contextmanager
def stopped(*tiers: Tier) -> Iterator[None]:
    """Whole process groups, all at once."""
    for tier in tiers:
        os.killpg(tier.process.pid, signal.SIGSTOP)
    yield
    for tier in tiers:
        os.killpg(tier.process.pid, signal.SIGCONT)


@contextlib.contextmanager
def answers_under_way(count: int, *services: Service) -> Iterator[None]:
    """So many answers of each, which take a while, run through the block, and are whole in the
    end."""
    answers: list[httpx.Response] = []

    def ask(service: Service) -> None:
        answers.append(service.script(tokens=200, delay_s=0.02))

    asked = [service for service in services for _ in range(count)]
    clients = [threading.Thread(target=ask, args=(service,)) for service in asked]
    for client in clients:
        client.start()
    await_condition(lambda: [*map(running, services)] == [count] * len(services), "all run")
    yield
    for client in clients:
        client.join()
    assert [answer_text(answer) for answer in answers] == [words(200)] * len(asked)
    for service in services:
        assert service.get("/v1/queue/stats")["metrics"]["error_count"] == 0


def running(service: Service) -> int:
    active: int = service.get("/v1/queue/stats")["queue_stats"]["active_requests"]
    return active


def engines(service: Service) -> dict[str, int]:
    return {w["id"]: w["pid"] for w in service.worker_states() if w["state"] == "ready"}


@pytest.fixture(scope="module")
def service() -> Iterator[Service]:
    with serving(workers=2, worker_flags=WORKER) as started:
        yield started


def test_a_gateway_that_stood_still_and_a_suspended_machine_go_on(service: Service) -> None:
    """Both at once: neither knows of the other, and the time is long."""
    with serving(workers=2, worker_flags=WORKER) as suspended:
        before = engines(service), engines(suspended)
        still = (service.gateway, suspended.gateway, *suspended.workers)
        with answers_under_way(6, service, suspended), stopped(*still):
            time.sleep(STOPPED_S)
        assert engines(service) == before[0]
        await_condition(lambda: engines(suspended) == before[1], "the same engines", 10)
        assert "is killed" not in "".join(worker.output() for worker in suspended.workers)


def test_a_supervisor_that_was_stopped_listens_before_it_judges(service: Service) -> None:
    before = engines(service)
    supervisors = [worker.process.pid for worker in service.workers]
    with answers_under_way(2, service):
        for _ in range(2):
            for pid in supervisors:
                os.kill(pid, signal.SIGSTOP)
            time.sleep(4)
            for pid in supervisors:
                os.kill(pid, signal.SIGCONT)
    assert engines(service) == before
    assert "is killed" not in "".join(worker.output() for worker in service.workers)

"""The fault table of the design, line by line, with real processes and scripted answers."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.processes import Service, answer_text, serving
from tests.scripted import scripted, words
from tests.waiting import await_condition

WORKER = ("--engine", "scripted", "--max-concurrency", "8", "--stall-timeout", "1")


@pytest.fixture(scope="module")
def service() -> Iterator[Service]:
    with serving(workers=2, worker_flags=WORKER) as running:
        yield running


@pytest.fixture(autouse=True)
def all_back(service: Service) -> Iterator[None]:
    service.await_ready(2)
    yield
    await_condition(lambda: idle(service), "all slots free again")


def idle(service: Service) -> bool:
    stats = service.get("/v1/queue/stats")
    return stats["queue_stats"]["active_requests"] == 0 and not any(
        worker.get("active") for worker in stats["workers"]
    )


def stream_text(service: Service, **script: Any) -> str:
    """The text of a whole stream; fails unless it ended as a whole one does."""
    with service.client.stream(
        "POST", f"{service.url}/v1/chat/completions", json=scripted(stream=True, **script)
    ) as response:
        assert response.status_code == 200, response.read()
        lines = [line for line in response.iter_lines() if line.startswith("data: ")]
    assert lines[-1] == "data: [DONE]", lines[-1]
    chunks = [httpx.Response(200, content=line[6:]).json() for line in lines[:-1]]
    deltas = [chunk["choices"][0] for chunk in chunks]
    assert [d["finish_reason"] for d in deltas if d["finish_reason"]] == ["stop"]
    return "".join(delta["delta"].get("content") or "" for delta in deltas)


@pytest.mark.parametrize("fault", ["die", "hang", "crash"])
@pytest.mark.parametrize("at", [0, 10])
def test_one_death_costs_a_delay_and_nothing_else(
    service: Service, tmp_path: Path, fault: str, at: int
) -> None:
    script: dict[str, Any] = {"tokens": 20, "delay_s": 0.01, "fault": fault, "at": at}
    once = str(tmp_path / "struck")
    assert stream_text(service, **script, once=once) == words(20)
    service.await_ready(2)
    assert answer_text(service.script(**script, once=once + "2")) == words(20)


def test_an_engine_that_computes_for_longer_than_the_limit_is_left_alone(
    service: Service, tmp_path: Path
) -> None:
    before = {worker["pid"] for worker in service.worker_states()}
    script: dict[str, Any] = {"tokens": 20, "at": 10, "fault": "compute", "compute_s": 3.0}
    assert stream_text(service, **script, once=str(tmp_path / "struck")) == words(20)
    assert {worker["pid"] for worker in service.worker_states()} == before


def test_an_engine_that_computes_for_ever_is_killed(service: Service, tmp_path: Path) -> None:
    script: dict[str, Any] = {"tokens": 20, "at": 10, "fault": "compute", "compute_s": 3600.0}
    assert stream_text(service, **script, once=str(tmp_path / "struck")) == words(20)


@pytest.mark.parametrize("fault", ["die", "crash"])
def test_a_job_that_kills_two_workers_is_not_tried_again(service: Service, fault: str) -> None:
    response = service.script(tokens=5, fault=fault)
    assert response.status_code == 500
    error = response.json()["error"]
    assert error["code"] == "worker_failed"
    assert response.headers["X-Request-ID"] in error["message"]


def test_a_job_that_fails_alone_leaves_its_neighbours_alone(service: Service) -> None:
    answers: list[str] = []
    neighbour = threading.Thread(
        target=lambda: answers.append(stream_text(service, tokens=40, delay_s=0.01))
    )
    neighbour.start()
    response = service.script(tokens=5, fault="fail", at=2, code="invalid_image")
    neighbour.join()
    assert response.status_code == 400
    assert response.json()["error"]["code"] == "invalid_image"
    assert answers == [words(40)]


def test_a_stopped_engine_is_killed_and_its_jobs_go_on(service: Service) -> None:
    with service.client.stream(
        "POST",
        f"{service.url}/v1/chat/completions",
        json=scripted(stream=True, tokens=60, delay_s=0.02),
    ) as response:
        lines = response.iter_lines()
        next(lines)
        holders = [w for w in service.worker_states() if w["active"]]
        os.kill(holders[0]["pid"], signal.SIGSTOP)
        text = "\n".join(lines)
    assert "[DONE]" in text and "w59 " in text


def test_a_job_that_reached_no_engine_has_no_part_in_its_end(
    service: Service, tmp_path: Path
) -> None:
    """The engines have just stopped, which nobody can know yet; the next one dies of the job."""
    for worker in service.worker_states():
        os.kill(worker["pid"], signal.SIGSTOP)
    answer = service.script(tokens=20, fault="die", at=10, once=str(tmp_path / "struck"))
    assert answer_text(answer) == words(20)


def test_draining_loses_nothing(service: Service) -> None:
    """SIGTERM to a worker with a running answer: it finishes there or goes on elsewhere."""
    results: list[str] = []
    client = threading.Thread(
        target=lambda: results.append(stream_text(service, tokens=250, delay_s=0.02))
    )
    client.start()
    (holder,) = await_condition(
        lambda: [w for w in service.worker_states() if w["active"]], "it runs"
    )
    leaving = next(w for w in service.workers if f"-{w.process.pid}" in holder["id"])
    assert leaving.stop() == 0
    service.workers.remove(leaving)
    service.add_worker()
    client.join()
    assert results == [words(250)]

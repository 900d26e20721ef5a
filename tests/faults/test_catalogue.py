"""A host's catalogue over time, played by scripts: what waits, what leaves, what is loaded once."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest
from httpx import Response

from tests.processes import ROOT, Service, answer_text, serving
from tests.scripted import scripted, words
from tests.waiting import await_condition

DEMO = ROOT / "worker" / "demo_model"
NO_CACHES = ("--prefix-cache-gib", "0", "--vision-cache-gib", "0")
SCRIPTED = ("--engine", "scripted", "--drain-timeout", "0", *NO_CACHES)


@pytest.fixture(scope="module")
def service() -> Iterator[Service]:
    with serving(workers=0) as service:
        named = [f"--model-path={name}={DEMO}" for name in ("a", "b", "c")]
        service.add_worker(*named, *SCRIPTED)
        await_condition(lambda: len(service.get("/v1/models")["data"]) == 3, "the catalogue")
        yield service


def status(service: Service, model: str) -> str:
    value: str = service.get(f"/v1/models/{model}")["status"]["value"]
    return value


def loads(service: Service, model: str) -> int:
    """How often it was loaded since the start."""
    return service.workers[0].output().count(f"model {model} is wanted and starts to load")


def asked(model: str, **script: Any) -> dict[str, Any]:
    return {"model": model, **scripted(**script)}


def is_answering(service: Service, model: str) -> bool:
    workers = service.worker_states()
    return any(worker["model"] == model and worker.get("active") for worker in workers)


def unloaded_while_it_answers(service: Service, clients: ThreadPoolExecutor) -> Future[Response]:
    """Order model a away in mid-answer. Returns that answer, to come."""
    running = clients.submit(service.ask, asked("a", tokens=20, delay_s=0.05))
    await_condition(lambda: is_answering(service, "a"), "the answer's beginning")
    before = orders(service)
    service.ask({"model": "a"}, "/v1/models/unload")
    await_condition(lambda: orders(service) > before, "the order's arrival")
    return running


def orders(service: Service) -> int:
    return service.workers[0].output().count("model a is told to leave")


def test_a_busy_model_that_is_unloaded_ends_its_answers_and_takes_no_more(
    service: Service,
) -> None:
    with ThreadPoolExecutor() as clients:
        assert answer_text(unloaded_while_it_answers(service, clients).result()) == words(20)
        assert loads(service, "a") == 1
        await_condition(lambda: status(service, "a") == "unloaded", "its end")
        running = unloaded_while_it_answers(service, clients)
        later = clients.submit(service.ask, asked("a"))
        assert answer_text(running.result()) == words(20)
        assert answer_text(later.result()) == words(8)
    assert loads(service, "a") == 3


def test_a_host_that_is_told_to_stop_waits_for_no_answer_of_a_leaver(service: Service) -> None:
    with ThreadPoolExecutor() as clients:
        running = clients.submit(service.ask, asked("b", tokens=10_000, delay_s=0.1))
        await_condition(lambda: is_answering(service, "b"), "the answer's beginning")
        service.ask({"model": "b"}, "/v1/models/unload")
        worker = service.workers.pop()
        await_condition(lambda: "model b is told to leave" in worker.output(), "the order")
        assert worker.stop() == 0
        assert not running.result().is_success

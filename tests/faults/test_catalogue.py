"""A host's catalogue over time, played by scripts: what waits, what leaves, what is loaded once."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest
from httpx import Response

from scripts.launch.tiers import children
from tests.processes import ROOT, Service, answer_text, serving
from tests.scripted import scripted, words
from tests.waiting import await_condition

DEMO = ROOT / "worker" / "demo_model"
NO_CACHES = ("--prefix-cache-gib", "0", "--vision-cache-gib", "0")
SCRIPTED = ("--engine", "scripted", "--drain-timeout", "0", *NO_CACHES)


LIST = f"""
[models.pinned]
path = "{DEMO}"
pin = true
preload = true
[models.short]
path = "{DEMO}"
idle_unload = 0.5
"""
THREE_FIT = ("--memory-budget-gib", "0.7")
"""Each takes 0.2 GiB by its estimate."""


@pytest.fixture(scope="module")
def other_gateway() -> Iterator[Service]:
    with serving(workers=0) as gateway:
        yield gateway


@pytest.fixture(scope="module")
def service(other_gateway: Service, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    file = tmp_path_factory.mktemp("list") / "models.toml"
    file.write_text(LIST)
    with serving(workers=0) as service:
        named = [f"--model-path={name}={DEMO}" for name in ("a", "b", "c")]
        gateways = ("--gateway", other_gateway.worker_endpoint)
        service.add_worker(*named, "--models", str(file), *gateways, *THREE_FIT, *SCRIPTED)
        for gateway in (service, other_gateway):
            await_condition(lambda: len(gateway.get("/v1/models")["data"]) == 5, "the catalogue")  # noqa: B023
        yield service


def status(service: Service, model: str) -> str:
    value: str = service.get(f"/v1/models/{model}")["status"]["value"]
    return value


def loads(service: Service, model: str) -> int:
    """How often it was loaded since the start."""
    return service.workers[0].output().count(f"model {model} starts to load")


def asked(model: str, **script: Any) -> dict[str, Any]:
    return {"model": model, **scripted(**script)}


def idle_s(service: Service, model: str) -> float:
    return float(service.get(f"/v1/models/{model}")["idle_s"] or 0)


def is_answering(service: Service, model: str) -> bool:
    """Not only that it was sent: a worker that leaves sends back what is on its way."""
    workers = service.worker_states()
    return any(worker["model"] == model and worker.get("tokens") for worker in workers)


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


def test_two_gateways_that_ask_at_once_have_one_engine(
    service: Service, other_gateway: Service
) -> None:
    with ThreadPoolExecutor() as clients:
        answers = [clients.submit(each.ask, asked("c")) for each in (service, other_gateway)]
        assert [answer_text(answer.result()) for answer in answers] == [words(8)] * 2
    assert loads(service, "c") == 1


def test_what_is_preloaded_and_pinned_stays_whoever_comes(service: Service) -> None:
    await_condition(lambda: status(service, "pinned") == "loaded", "the start's own load")
    for name in ("a", "b", "c", "a", "b"):
        assert answer_text(service.ask(asked(name))) == words(8)
        assert len(children(service.workers[0].process.pid)) <= 3
    assert status(service, "pinned") == "loaded"
    assert loads(service, "pinned") == 1


def test_a_model_that_nobody_asks_leaves_when_its_time_is_over(service: Service) -> None:
    answer_text(service.ask(asked("short")))
    answer_text(service.ask(asked("b") | {"ttl": 1}))
    await_condition(lambda: status(service, "short") == "unloaded", "its idle limit")
    await_condition(lambda: status(service, "b") == "unloaded", "the limit of its request")


def test_an_engine_that_is_killed_while_it_loads_is_told_to_who_waits(service: Service) -> None:
    worker = service.workers[0].process.pid
    before = set(children(worker))
    with ThreadPoolExecutor() as clients:
        waiting = clients.submit(service.ask, asked("short"))
        (engine,) = await_condition(lambda: set(children(worker)) - before, "the engine")
        os.kill(engine, signal.SIGKILL)
        refused = waiting.result()
    assert refused.status_code == 503, refused.text
    assert "signal 9" in refused.text and int(refused.headers["Retry-After"]) > 0
    assert status(service, "short") == "failed"


def test_an_answer_that_takes_no_time_is_a_use_too(service: Service) -> None:
    for _ in range(2):
        await_condition(lambda: idle_s(service, "pinned") > 1.5, "the model's rest")
        began = time.monotonic()
        assert answer_text(service.ask(asked("pinned"))) == words(8)
        await_condition(lambda: idle_s(service, "pinned") < time.monotonic() - began, "its use", 9)  # noqa: B023


def test_a_host_that_is_told_to_stop_waits_for_no_answer_of_a_leaver(service: Service) -> None:
    with ThreadPoolExecutor() as clients:
        running = clients.submit(service.ask, asked("b", tokens=10_000, delay_s=0.1))
        await_condition(lambda: is_answering(service, "b"), "the answer's beginning")
        service.ask({"model": "b"}, "/v1/models/unload")
        worker = service.workers.pop()
        await_condition(lambda: "model b is told to leave" in worker.output(), "the order")
        assert worker.stop() == 0
        assert not running.result().is_success

"""The protocol's page is enough for a host, too: models are loaded and unloaded as asked."""

from __future__ import annotations

import os
import re
import shutil
import signal
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from scripts.doctor_checks.service import Service as Doctor
from scripts.doctor_checks.service import check_service
from tests.foreign.test_foreign_worker import TEXT, body, gateway, streamed, text_of
from tests.processes import Service, Tier, answer_text
from tests.waiting import await_condition, free_port

HERE = Path(__file__).parent
MODELS = ("a=6", "b=6", "broken=1", "huge=40")
"""With a budget of ten, `a` and `b` do not fit together."""


class ForeignHost(Tier):
    def command(self, module: str, flags: tuple[str, ...]) -> list[str]:
        return [sys.executable, "-I", module, *flags]


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    folder = tmp_path_factory.mktemp("host")
    file = shutil.copy(HERE / "host.py", folder)
    shutil.copy(HERE / "worker.py", folder)
    with gateway(free_port(), f"tcp://127.0.0.1:{free_port()}") as running:
        running.workers.append(
            ForeignHost(str(file), running.worker_endpoint, "mac", "10", *MODELS)
        )
        await_condition(lambda: running.get("/v1/models")["data"], "the host is there")
        yield running


def status(service: Service, model: str) -> str:
    return str(service.get(f"/v1/models/{model}")["status"]["value"])


def order(service: Service, action: str, model: str, **fields: Any) -> dict[str, Any]:
    answer = service.ask({"model": model, **fields}, f"/v1/models/{action}")
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def test_the_whole_catalogue_is_listed_and_ready(service: Service) -> None:
    assert service.client.get(f"{service.url}/ready").status_code == 200
    listed = service.get("/v1/models")["data"]
    assert [model["id"] for model in listed] == ["a", "b", "broken", "huge"]
    assert [model["memory_bytes"] for model in listed] == [6, 6, 1, 40]


def test_requests_for_models_that_do_not_fit_together_are_all_answered(service: Service) -> None:
    def ask(number: int) -> str:
        model = "ab"[number % 2]
        if number % 3 == 0:
            return text_of(streamed(service, model=model))
        return answer_text(service.ask(body(model=model)))

    with ThreadPoolExecutor(4) as pool:
        assert set(pool.map(ask, range(4))) == {TEXT + " "}


def test_a_model_is_loaded_and_unloaded_by_order(service: Service) -> None:
    loaded = order(service, "load", "a", wait=True)
    assert loaded["status"] == {"value": "loaded", "fraction": 1.0, "error": None}
    assert loaded["workers"] == ["mac/a"]
    unloaded = order(service, "unload", "a", wait=True)
    assert unloaded["status"]["value"] == "unloaded"
    assert order(service, "load", "b")["status"]["value"] in ("loading", "loaded")
    await_condition(lambda: status(service, "b") == "loaded", "loaded without waiting for it")


def test_what_cannot_be_loaded_is_said_at_once_and_why(service: Service) -> None:
    for path, fields in (("/v1/chat/completions", body()), ("/v1/models/load", {"wait": True})):
        never = service.ask({**fields, "model": "huge"}, path)
        assert (never.status_code, never.json()["error"]["code"]) == (400, "model_too_large")
        failed = service.ask({**fields, "model": "broken"}, path)
        assert failed.status_code == 503 and int(failed.headers["retry-after"]) > 1
        assert "a broken parrot says nothing" in failed.json()["detail"]
    assert status(service, "broken") == "failed"
    said = "\n".join(str(one) for one in check_service(Doctor(service.url, None), 1, needed=True))
    assert "4 models can be asked for" in said
    assert "WRONG  The model broken could not be loaded: a broken parrot says nothing" in said


def test_a_request_sets_the_idle_limit_of_its_model(service: Service) -> None:
    assert answer_text(service.ask(body(model="a", ttl=300))) == TEXT + " "
    assert "load a 300.0" in service.workers[0].output()


def test_an_engine_that_is_killed_is_loaded_again_for_who_was_using_it(service: Service) -> None:
    order(service, "load", "a", wait=True)
    chunks = streamed(service, model="a")
    first = next(chunks)
    started = re.findall(r"engine a (\d+)", service.workers[0].output())
    os.kill(int(started[-1]), signal.SIGKILL)
    assert text_of([first, *chunks]) == TEXT + " "

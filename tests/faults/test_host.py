"""A host with three models where two fit: loaded when asked for, and gone when others are."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from scripts.launch.tiers import children
from tests.processes import ROOT, Service, answer_text, serving
from tests.waiting import await_condition

DEMO = ROOT / "worker" / "demo_model"
TWO_FIT = ("--memory-budget-gib", "1")
SMALL_CACHES = ("--prefix-cache-gib", "0.25", "--vision-cache-gib", "0.1")


@pytest.fixture(scope="module")
def models_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("list") / "models.toml"
    file.write_text("")
    return file


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory, models_file: Path) -> Iterator[Service]:
    folder = tmp_path_factory.mktemp("models")
    for name in ("a", "b", "c"):
        (folder / name).symlink_to(DEMO)
    broken = folder / "broken"
    broken.mkdir()
    for file in DEMO.iterdir():
        (broken / file.name).symlink_to(file)
    (broken / "config.json").unlink()
    (broken / "config.json").write_text('{"model_type": "no_such_family"}')
    with serving(workers=0) as service:
        service.worker_flags = ()
        given = "--models-dir", str(folder), "--models", str(models_file)
        service.add_worker(*given, *TWO_FIT, *SMALL_CACHES)
        await_condition(lambda: len(statuses(service)) == 4, "the catalogue")
        yield service


def statuses(service: Service) -> dict[str, str]:
    entries: list[dict[str, Any]] = service.get("/v1/models")["data"]
    return {entry["id"]: entry.get("status", {}).get("value", "") for entry in entries}


def ask(service: Service, model: str) -> str:
    question = {"role": "user", "content": "What is the capital of France?"}
    return answer_text(service.ask({"model": model, "messages": [question]}))


def test_each_is_loaded_when_asked_for_and_never_more_than_fit(service: Service) -> None:
    assert set(statuses(service).values()) == {"unloaded"}
    for name in ("a", "b", "c", "a"):
        assert ask(service, name) == "The capital of France is Paris."
        assert len(children(service.workers[0].process.pid)) <= 2
        assert statuses(service)[name] == "loaded"


def test_an_engine_is_held_to_what_the_host_has_beside_the_others(service: Service) -> None:
    """Six answers of 30,000 tokens take 1.05 GiB of cache: the machine has it, the host has not."""
    question = {"role": "user", "content": "What is the capital of France?"}
    asked = {"model": "a", "messages": [question], "max_tokens": 30_000, "n": 6}
    refused = service.ask(asked)
    assert refused.status_code == 503, refused.text
    assert refused.json()["error"]["code"] == "out_of_memory"
    assert "of other engines" in refused.text
    asked["n"] = 1
    assert answer_text(service.ask(asked)) == "The capital of France is Paris."


def test_a_model_that_was_just_asked_for_is_unloaded_and_stays_so(service: Service) -> None:
    ask(service, "b")
    unloaded = service.ask({"model": "b", "wait": True}, "/v1/models/unload")
    assert unloaded.json()["status"]["value"] == "unloaded"
    assert unloaded.json()["capabilities"]["vision"], "what is known of it stays known"
    assert ask(service, "b") == "The capital of France is Paris."


def test_a_model_that_cannot_be_loaded_says_why_and_the_others_go_on(service: Service) -> None:
    question = {"role": "user", "content": "Hello"}
    refused = service.ask({"model": "broken", "messages": [question]})
    assert refused.status_code == 503
    assert "no_such_family" in refused.text
    assert statuses(service)["broken"] == "failed"
    assert ask(service, "a") == "The capital of France is Paris."


def test_the_file_is_read_again_and_an_error_in_it_changes_nothing(
    service: Service, models_file: Path
) -> None:
    models_file.write_text('[models.a]\naliases = ["paris"]')
    await_condition(lambda: "paris" in str(service.get("/v1/models")), "the alias")
    assert ask(service, "paris") == "The capital of France is Paris."
    models_file.write_text("[models.a]\nslots = 3")
    worker = service.workers[0]
    await_condition(lambda: "unknown: slots" in worker.output(), "the error's line")
    assert ask(service, "paris") == "The capital of France is Paris."


def test_a_host_that_is_told_to_stop_takes_its_engines_with_it(service: Service) -> None:
    worker = service.workers.pop()
    engines = children(worker.process.pid)
    assert engines
    assert worker.stop() == 0
    assert not any(Path(f"/proc/{pid}").exists() for pid in engines)

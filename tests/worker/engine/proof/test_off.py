"""A model that is not served, and what is off stays off."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import mlx.core as mx
import pytest

from tests.worker.engine.conftest import MakeDriver
from tests.worker.engine.driving import Driver, job, picture
from tests.worker.engine.proof.spoiling import (
    Patch,
    around_the_language_model,
    proof_of,
    skewed,
)
from worker.engine.interface import ModelError
from worker.engine.load import go_by
from worker.engine.model.family import Abilities
from worker.engine.options import EngineOptions
from worker.engine.proof.proof import Proof

pytestmark = pytest.mark.usefixtures("short_prompts_alone")


def test_a_model_whose_single_row_differs_is_not_served(
    drive: MakeDriver, monkeypatch: Patch
) -> None:
    driver = drive("llama")
    forward = driver.model.forward
    monkeypatch.setattr(driver.model, "forward", lambda *a, **given: skewed(forward(*a, **given)))
    with pytest.raises(ModelError, match=r"not what mlx-vlm itself answers .*text 1, alone"):
        proof_of(driver)


def test_a_model_that_mlx_vlm_cannot_run_is_not_served(
    drive: MakeDriver, monkeypatch: Patch
) -> None:
    def change(tokens: mx.array, logits: mx.array) -> mx.array:
        raise ValueError("no kernel for that")

    driver = drive("llama")
    around_the_language_model(driver, monkeypatch, change)
    with pytest.raises(ModelError, match="no kernel for that"):
        proof_of(driver)


# --- what is off stays off -----------------------------------------------------------------------


def serving_without(driver: Driver, *names: str) -> None:
    abilities = driver.model.family.abilities.without(*names)
    options = EngineOptions(model_path="", largest_piece=8)
    go_by(driver.engine, options, Proof(abilities, dict.fromkeys(names, False)))


def answers(driver: Driver, images: Sequence[bytes] = ()) -> list[list[int]]:
    first = driver.run(job("1", "Hello"), job("2", "How many shapes are there? " * 4, images))
    return [result.tokens for result in first]


@pytest.mark.parametrize(
    "name", sorted(set(Abilities().as_dict()) - {"pictures", "several_pictures"})
)
def test_answers_are_the_same_without(name: str, drive: MakeDriver, monkeypatch: Patch) -> None:
    driver = drive()
    images = [picture("red"), picture("blue", (70, 120))]
    expected = answers(driver, images)
    serving_without(driver, name)
    rows, pieces = [], []
    forward = driver.model.forward

    def look(tokens: mx.array, *given: Any, **named: Any) -> mx.array:
        rows.append(tokens.shape[0])
        pieces.append(tokens.shape[1])
        return forward(tokens, *given, **named)

    monkeypatch.setattr(driver.model, "forward", look)
    assert answers(driver, images) == answers(driver, images) == expected
    gauges = driver.engine.gauges()
    assert (max(rows) == 1) == (name == "batching")
    assert (max(pieces) > 8) == (name == "pieces")
    assert (gauges["prefix_cache_hits"] == 0) == (name == "prefix_cache")
    if name == "vision_cache":
        assert gauges["vision_cache_hits"] == gauges["vision_cache_bytes"] == 0
    assert driver.engine.facts.proven == {name: False}


def test_pictures_that_are_off_are_refused_and_text_is_not(drive: MakeDriver) -> None:
    driver = drive()
    serving_without(driver, "pictures", "several_pictures")
    failed = driver.solo(job("1", images=[picture("red")])).failed
    assert failed is not None and failed.code == "invalid_request"
    assert "takes none" in failed.message
    assert driver.solo(job("2")).done and not driver.engine.facts.vision


def test_several_pictures_that_are_off_are_refused(drive: MakeDriver) -> None:
    driver = drive()
    serving_without(driver, "several_pictures")
    failed = driver.solo(job("1", images=[picture("red"), picture("blue")])).failed
    assert failed is not None and "takes one image" in failed.message
    assert driver.solo(job("2", images=[picture("red")])).done


def test_what_cannot_be_made_ready_is_no_crash(
    checkpoint: Callable[[str], Path], monkeypatch: Patch
) -> None:
    """Whatever a model trips over, it will again: the worker ends with one sentence."""

    def fail(engine: Any) -> None:
        raise AttributeError("keys are None")

    monkeypatch.setattr("worker.engine.load.warm_up", fail)
    with pytest.raises(ModelError, match="cannot be made ready: keys are None"):
        Driver(EngineOptions(model_path=str(checkpoint("llama"))))


def test_memory_may_be_there_next_time(
    checkpoint: Callable[[str], Path], monkeypatch: Patch
) -> None:
    def fail(engine: Any) -> None:
        raise RuntimeError("[malloc] Unable to allocate 5 bytes")

    monkeypatch.setattr("worker.engine.load.warm_up", fail)
    with pytest.raises(RuntimeError, match="allocate"):
        Driver(EngineOptions(model_path=str(checkpoint("llama"))))

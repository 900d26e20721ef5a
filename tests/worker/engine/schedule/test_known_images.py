"""Images that a remembered prompt holds are not encoded again, and no answer differs for that."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import mlx.core as mx
import pytest

from shared.messages import ChatMessage
from tests.worker.engine.conftest import MakeDriver
from tests.worker.engine.driving import Driver, Result, assistant, job, picture, sampled, user
from worker.engine.load import go_by
from worker.engine.options import EngineOptions
from worker.engine.proof.proof import Proof
from worker.settings import BUILT_IN_MODEL

RED, BLUE = picture("red"), picture("blue", (70, 120))
FIRST = [user("What is in this image, and where in the image is it?", 0)]
LONG = {"max_tokens": 6, "ignore_eos": True, "sampling": sampled(7), "logprobs": 3}


def turn(text: str, *images: int) -> list[ChatMessage]:
    return [*FIRST, assistant("Squares."), user(text, *images)]


def encoded(driver: Driver) -> float:
    """How many images have been computed so far."""
    return driver.engine.gauges()["vision_cache_misses"]


def said(result: Result) -> list[tuple[str, float]]:
    return [(one.token, one.logprob) for delta in result.deltas for one in delta.logprobs]


def assert_same(found: Result, expected: Result) -> None:
    assert found.tokens == expected.tokens
    for (text, mine), (other, theirs) in zip(said(found), said(expected), strict=True):
        assert text == other and mine == pytest.approx(theirs, abs=2e-2)


@pytest.mark.parametrize(
    ("model", "images_apart"),
    [(BUILT_IN_MODEL, True), ("qwen3_vl", True), ("idefics3", False)],
    ids=["the built-in one", "qwen3_vl", "idefics3"],
)
def test_later_turns_do_not_encode_what_is_known(
    model: Path | str, images_apart: bool, drive: MakeDriver
) -> None:
    """With no features kept at all: a second turn, then one with another picture.

    Args:
        images_apart: each image's places are known; else a known start has all of a prompt's.
    """
    where = {"family": model} if isinstance(model, str) else {"model_path": model}
    driver, plain = drive(**where, vision_cache_bytes=0), drive(**where, prefix_cache_bytes=0)
    turns = [
        (FIRST, [RED], 1),
        (FIRST, [RED], 0),
        (turn("And how many?"), [RED], 0),
        (turn("And in this one?", 1), [RED, BLUE], 1),
        (turn("And in this one?", 1), [RED, BLUE], 0),
        (turn("And in this one?", 1), [BLUE, RED], 2),
    ]
    for number, (messages, images, computed) in enumerate(turns):
        expected = plain.solo(job(f"plain {number}", messages, images, **LONG))
        before = encoded(driver)
        found = driver.solo(job(str(number), messages, images, **LONG))
        assert_same(found, expected)
        count = encoded(driver) - before
        assert (count == computed) if images_apart else (bool(count) == bool(computed))


def test_a_model_that_looks_back_at_its_images_gets_them(
    drive: MakeDriver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What follows an image is embedded with something of it; later the number itself is needed."""
    driver, plain = drive(vision_cache_bytes=0), drive(prefix_cache_bytes=0)
    kind = type(driver.model.network)
    merge = kind.merge_input_ids_with_image_features
    needed = False

    def looking(image_id: int, video_id: int, features: mx.array, *given: Any) -> mx.array:
        mean = features.mean()
        assert not (needed and mx.isnan(mean).item())
        merged: mx.array = merge(image_id, video_id, features, *given)
        return merged + 0.1 * mean

    monkeypatch.setattr(kind, "merge_input_ids_with_image_features", staticmethod(looking))
    for number, words in enumerate(["And now?", "And now?", "And how many?"]):
        needed = number == 2
        made = job(str(number), turn(words), [RED], **LONG)
        assert_same(driver.solo(made), plain.solo(made))
        assert encoded(driver) == number + 1
    assert driver.engine.gauges()["prefix_cache_hits"] == 2


def test_what_is_forgotten_meanwhile_is_computed(
    drive: MakeDriver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While the image behind a known one is being encoded, a layer a step."""
    driver, plain = drive(vision_cache_bytes=0), drive(prefix_cache_bytes=0)
    tower = driver.model.tower
    assert tower is not None
    made = job("mixed", turn("And in this one?", 1), [RED, BLUE], **LONG)
    expected = plain.solo(made)
    for everything in (True, False):
        driver.engine.forget()
        driver.solo(job("before", FIRST, [RED], **LONG))
        with monkeypatch.context() as hurried:
            hurried.setattr("worker.engine.schedule.queue.LONGEST_WORK_S", 0.0)
            driver.submit(made)
            driver.until(lambda: tower.underway)
        assert not all(image.done for image in tower.underway.values())
        if everything:
            driver.engine.forget()
        else:
            driver.model.vision_cache.clear()
        driver.until(lambda: driver.results["mixed"].over)
        assert_same(driver.results["mixed"], expected)
        assert bool(driver.results["mixed"].done.usage.cached_tokens) != everything


def test_an_image_that_looks_otherwise_beside_others_is_none_that_is_known(
    drive: MakeDriver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A tower whose features of an image depend on all of its prompt's."""
    driver, plain = drive(), drive()
    for one, able in ((driver, ["picture_splitting"]), (plain, ["prefix_cache", "vision_cache"])):
        abilities = one.model.family.abilities.without("picture_splitting", *able)
        go_by(one.engine, EngineOptions(model_path=""), Proof(abilities))
    kind = type(driver.model.network.vision_tower)
    call = kind.__call__

    def together(self: Any, pixels: mx.array, grid: mx.array, **given: Any) -> Any:
        return call(self, pixels, grid, **given) * (1.0 if len(grid) == 1 else -1.0)

    monkeypatch.setattr(kind, "__call__", together)
    for number, (messages, images) in enumerate(
        [(FIRST, [RED]), (turn("And in this one?", 1), [RED, BLUE]), (turn("How many?"), [RED])]
    ):
        made = job(str(number), messages, images, **LONG)
        found = driver.solo(made)
        assert_same(found, plain.solo(made))
    assert found.done.usage.cached_tokens > driver.prompt(made).images_end

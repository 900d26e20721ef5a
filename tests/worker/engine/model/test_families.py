"""Every family of models: the engine says what mlx-vlm itself says, alone and in any company."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlx.core as mx
import pytest
from mlx_vlm.utils import prepare_inputs

from scripts.checkpoints.families import FAMILIES, SEEING
from scripts.family_sweep import reference as plain
from shared.messages import ChatMessage, ImagePart, TextPart
from tests.worker.engine.conftest import MakeDriver
from tests.worker.engine.driving import Driver, assistant, job, picture, user
from worker.engine.model.vision_tower import MoreToEncode
from worker.engine.schedule.pacer import Pacer
from worker.engine.schedule.prefill import inputs_of

RED, BLUE = picture("red"), picture("blue", (70, 120))


def reference(path: Path, text: str, images: list[bytes], count: int) -> list[int]:
    """What mlx-vlm's own generator says, greedily, to a rendered prompt."""
    return plain.reference(path, text, images, count).tokens


def rendered(driver: Driver, made: tuple[Any, list[bytes]]) -> str:
    return driver.render(made)


def same_start(said: list[int], expected: list[int]) -> None:
    """An answer that ended early said the same up to its end."""
    assert said and said == expected[: len(said)]


@pytest.mark.parametrize("family", FAMILIES)
def test_text_is_answered_as_mlx_vlm_does(
    family: str, anew: MakeDriver, checkpoint: Callable[[str], Path]
) -> None:
    driver = anew(family)
    asked = job("1", "What is in this image?")
    result = driver.solo(asked)
    expected = reference(checkpoint(family), rendered(driver, asked), [], 10)
    same_start(result.tokens, expected)
    assert result.finish_reason in ("stop", "length")
    assert result.done.usage.completion_tokens == len(result.tokens)


@pytest.mark.parametrize("images", [[RED], [RED, BLUE]], ids=["one image", "two images"])
@pytest.mark.parametrize("family", SEEING)
def test_images_are_seen_as_mlx_vlm_sees_them(
    family: str, images: list[bytes], anew: MakeDriver, checkpoint: Callable[[str], Path]
) -> None:
    driver = anew(family)
    asked = job("1", "What is in this image?", images)
    result = driver.solo(asked)
    expected = reference(checkpoint(family), rendered(driver, asked), images, 10)
    same_start(result.tokens, expected)
    assert result.done.usage.image_tokens > 0


@pytest.mark.parametrize("family", SEEING)
def test_another_picture_is_another_answer_in_spite_of_the_caches(
    family: str, anew: MakeDriver
) -> None:
    driver = anew(family)
    first = driver.solo(job("1", "What is it?", [RED]))
    other = driver.solo(job("2", "What is it?", [picture("blue")]))
    again = driver.solo(job("3", "What is it?", [RED]))
    assert first.tokens != other.tokens
    assert first.tokens == again.tokens
    assert again.done.usage.cached_tokens > other.done.usage.cached_tokens


@pytest.mark.parametrize("family", FAMILIES)
def test_a_second_turn_goes_on_from_the_first(family: str, anew: MakeDriver) -> None:
    """With the caches of turn 1 it says exactly what it says without any cache."""
    images = [RED] if family in SEEING else []
    first = [user("What is in this image?", *range(len(images)))]
    second = [*first, assistant("Two shapes."), user("How many shapes are there?")]
    driver, fresh = anew(family), anew(family, prefix_cache_bytes=0, vision_cache_bytes=0)
    driver.solo(job("1", first, images))
    cached = driver.solo(job("2", second, images))
    uncached = fresh.solo(job("2", second, images))
    assert cached.tokens == uncached.tokens
    assert cached.done.usage.cached_tokens > 0
    assert uncached.done.usage.cached_tokens == 0


@pytest.mark.parametrize("family", FAMILIES)
def test_a_mixed_batch_says_what_each_says_alone(family: str, anew: MakeDriver) -> None:
    jobs = [
        job("short", "Hello"),
        job("long", "How many shapes are there? " * 6),
        job("other", "Hello, how are you?", max_tokens=4),
    ]
    if family in SEEING:
        jobs += [job("one", "What is it?", [RED]), job("two", "And these?", [BLUE, RED])]
    alone = [anew(family, prefix_cache_bytes=0).solo(made) for made in jobs]
    together = anew(family, prefix_cache_bytes=0).run(*jobs)
    for solo, batched in zip(alone, together, strict=True):
        assert batched.tokens == solo.tokens
        assert batched.text == solo.text
        assert batched.finish_reason == solo.finish_reason


@pytest.mark.parametrize("family", FAMILIES)
def test_a_long_prompt_in_small_pieces_is_the_same_prompt(
    family: str,
    anew: MakeDriver,
    checkpoint: Callable[[str], Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It joins running streams eight tokens at a time, cut within its pictures too."""
    monkeypatch.setattr(Pacer, "SHORT", 0)
    monkeypatch.setattr(Pacer, "LARGEST", 8)
    driver = anew(family, prefix_cache_bytes=0)
    driver.submit(job("stream", "Hello", max_tokens=200, ignore_eos=True))
    driver.until(lambda: len(driver.results["stream"].tokens) > 3)
    images = [RED, BLUE] if family in SEEING else []
    asked = job("long", "What is in this image? " * 15, images)
    result = driver.solo(asked)
    assert not driver.results["stream"].over
    same_start(result.tokens, reference(checkpoint(family), rendered(driver, asked), images, 10))


@pytest.mark.parametrize("family", SEEING)
def test_no_picture_is_made_smaller_than_its_processor_wants(
    family: str, anew: MakeDriver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The processor, which alone knows what its model was trained on, gets it as it came."""
    driver = anew(family)
    seen: list[tuple[int, int]] = []

    def look(processor: Any, *, images: list[Any], **given: Any) -> Any:
        seen.extend(image.size for image in images)
        return prepare_inputs(processor, images=images, **given)

    monkeypatch.setattr("worker.engine.prepare.preprocess.prepare_inputs", look)
    driver.prompt(job("1", "What is it?", [picture("red", (1500, 700))]))
    assert seen == [(1500, 700)]


@pytest.mark.parametrize("family", SEEING)
def test_a_picture_is_encoded_a_layer_at_a_time_while_others_wait(
    family: str, anew: MakeDriver
) -> None:
    driver = anew(family, vision_cache_bytes=0)
    model = driver.model
    inputs = inputs_of(driver.prompt(job("1", "What is it?", [RED])))
    whole = model.embed(inputs)
    pieces = 0
    while True:
        try:
            found = model.embed(inputs, seconds=0.0)
            break
        except MoreToEncode:
            pieces += 1
    assert pieces >= 2  # as many as its tower has layers, at least
    assert mx.allclose(found.embeds, whole.embeds, atol=1e-5)


def test_a_model_that_cannot_batch_serves_one_after_the_other(
    drive: MakeDriver, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs = [job("1", "Hello"), job("2", "And you?", [RED]), job("3", "Both", choices=2)]
    together = drive().run(*jobs)
    monkeypatch.setattr("worker.engine.model.family.can_batch", lambda layer: False)
    one_by_one = drive().run(*jobs)
    for batched, single in zip(together, one_by_one, strict=True):
        assert [single.tokens_of(i) for i in (0, 1)] == [batched.tokens_of(i) for i in (0, 1)]


@pytest.mark.parametrize("family", ["qwen2_vl", "gemma3", "smolvlm"])
@pytest.mark.parametrize("position", ["before", "after", "as-sent"])
def test_images_stand_where_they_are_wanted(family: str, position: str, drive: MakeDriver) -> None:
    driver = drive(family, image_position=position)
    parts: list[TextPart | ImagePart] = [
        TextPart(text="first"),
        ImagePart(index=0),
        TextPart(text="last"),
    ]
    message = ChatMessage(role="user", content=parts)
    text = rendered(driver, job("1", [message], [RED]))
    marker = driver.model.image_marker if family != "gemma3" else "<start_of_image>"
    places = {"before": 0, "as-sent": 1, "after": 2}
    order = sorted(["first", marker, "last"], key=text.index)
    assert order.index(marker) == places[position]


def test_whether_a_prompt_may_be_cut_is_asked_with_its_tokens(
    drive: MakeDriver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """gemma4_unified looks for pictures among them."""
    driver = drive("llama")
    asked: list[mx.array] = []

    def policy(**given: Any) -> bool:
        asked.append(given["input_ids"])
        return True

    monkeypatch.setattr(driver.model.network, "chunked_prefill_policy", policy, raising=False)
    answer = driver.solo(job("x", "Hello"))
    assert {ids.shape for ids in asked} == {(1, answer.done.usage.prompt_tokens)}

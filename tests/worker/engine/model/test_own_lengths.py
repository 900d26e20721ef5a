"""Families whose networks make more embeddings of a prompt than it has tokens."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from scripts.family_sweep.reference import reference
from shared.messages import CountedTokens, Job
from tests.worker.engine.conftest import MakeDriver
from tests.worker.engine.driving import Driver, Result, assistant, job, picture, user
from worker.engine.prepare.preprocess import Prompt
from worker.engine.schedule.prefill import inputs_of

RED, BLUE = picture("red"), picture("blue", (70, 120))
LONGER = ("llava_next", "granite_vision", "llava_bunny", "phi4mm")


def counted(driver: Driver, made: tuple[Job, list[bytes]]) -> int:
    """What is said of the prompt by itself."""
    driver.results[made[0].id] = counting = Result()
    driver.engine.count(*made)
    driver.until(lambda: counting.events)
    (event,) = counting.events
    assert isinstance(event, CountedTokens)
    return event.prompt_tokens


def answer(driver: Driver, name: str, asked: object, images: list[bytes]) -> list[int]:
    return driver.solo(job(name, asked, images, ignore_eos=True)).tokens  # type: ignore[arg-type]


@pytest.mark.parametrize("family", LONGER)
def test_the_answer_is_mlx_vlms_and_comes_from_the_caches_again(
    family: str, anew: MakeDriver, checkpoint: Callable[[str], Path]
) -> None:
    driver = anew(family)
    question = "What is it?"
    expected = [
        reference(checkpoint(family), driver.render(job("r", question, [one])), [one], 10).tokens
        for one in (RED, BLUE)
    ]
    assert expected[0] != expected[1]
    assert answer(driver, "1", question, [RED]) == expected[0]
    assert answer(driver, "2", question, [BLUE]) == expected[1]
    again = driver.solo(job("3", question, [RED], ignore_eos=True))
    assert again.tokens == expected[0]
    assert again.done.usage.cached_tokens > 0


@pytest.mark.parametrize("family", ["llava_next", "phi4mm"])
def test_a_next_turn_goes_on_where_the_first_ended(family: str, anew: MakeDriver) -> None:
    turns = [user("What is it?", 0), assistant("Two shapes."), user("Where are they?")]
    driver, fresh = anew(family), anew(family, prefix_cache_bytes=0, vision_cache_bytes=0)
    driver.solo(job("1", turns[:1], [RED]))
    cached = driver.solo(job("2", turns, [RED], ignore_eos=True))
    assert cached.tokens == answer(fresh, "2", turns, [RED])
    assert cached.done.usage.cached_tokens > 0


@pytest.mark.parametrize("family", ["llava_next", "granite_vision", "llava_bunny", "paligemma"])
def test_where_mlx_vlm_looks_at_one_picture_several_are_refused(
    family: str, anew: MakeDriver
) -> None:
    failed = anew(family).solo(job("1", "And these?", [RED, BLUE])).failed
    assert failed is not None and failed.code == "invalid_request"
    assert failed.param == "messages" and "one image" in failed.message


@pytest.mark.parametrize("family", LONGER)
def test_what_is_counted_is_what_the_model_has_seen(family: str, anew: MakeDriver) -> None:
    made = job("1", "What is it?", [RED], ignore_eos=True, max_tokens=None)
    driver = anew(family)
    prompt = driver.prompt(made)
    seen = driver.model.embed(inputs_of(prompt)).length
    assert seen > len(prompt.ids)
    text = job("2", "What is it?")
    assert counted(driver, made) == seen
    assert counted(driver, text) == len(driver.prompt(text).ids)
    narrow = anew(family, max_context=seen + 3)
    for _ in ("cold", "cached"):
        result = narrow.solo(made)
        usage = result.done.usage
        assert (usage.prompt_tokens, usage.completion_tokens) == (seen, 3)
        assert usage.image_tokens == prompt.image_tokens + seen - len(prompt.ids)
        assert result.finish_reason == "length"
    full = anew(family, max_context=seen)
    assert counted(full, made) == seen
    result = full.solo(made)
    failed = result.failed
    assert failed is not None and failed.code == "context_length_exceeded"
    assert not result.accepted  # else a stream would have begun
    assert f"maximum context length is {seen} tokens" in failed.message
    assert (failed.prompt_tokens, failed.context_tokens) == (seen, seen)


def key(ids: list[int], image: str, length: int) -> list[int]:
    made = Prompt("", ids, np.array(ids), image_keys=(image,), image_ends=(2,))
    prompt = made.of_length(length)
    assert len(prompt.ids) == len(prompt.key) == length
    return list(prompt.key)


def test_what_stands_before_the_last_image_is_one_whole_in_the_key() -> None:
    one = key([5, 9, 6, 7], "red", 8)
    assert one[:6] == [one[0]] * 6 and one[6:] == [6, 7]
    assert key([5, 9, 6, 8], "red", 8)[:7] == one[:7]
    assert key([5, 9, 6, 7], "blue", 8)[0] != one[0]
    assert key([4, 9, 6, 7], "red", 8)[0] != one[0]


def test_fewer_embeddings_than_the_text_alone_has_tokens_are_refused() -> None:
    with pytest.raises(ValueError, match="2 embeddings"):
        key([5, 9, 6, 7], "red", 2)

"""A model that embeds an answer's tokens otherwise than a prompt's: LongCat-Flash n-gram looks back
at what was said before, within the prompt or within the answer.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from scripts.family_sweep.reference import reference
from shared.messages import Resume
from tests.worker.engine.conftest import MakeDriver
from tests.worker.engine.driving import job, sampled
from worker.engine.cache.keys import LEAST_TOKENS

FAMILY = "longcat_flash_ngram"
TEXTS = ("Hello", "How many shapes are there? " * 3, "What is the capital of France?")


@pytest.fixture(scope="module")
def expected(checkpoint: Callable[[str], Path], anew: MakeDriver) -> list[list[int]]:
    """What mlx-vlm says to the texts."""
    prompts = [anew(FAMILY).render(job("x", text)) for text in TEXTS]
    return [reference(checkpoint(FAMILY), prompt, [], 10).tokens for prompt in prompts]


def jobs(**fields: Any) -> list[Any]:
    return [job(text, text, ignore_eos=True, **fields) for text in TEXTS]


def test_alone_and_in_company_and_again_it_says_what_mlx_vlm_says(
    anew: MakeDriver, expected: list[list[int]]
) -> None:
    driver = anew(FAMILY)
    assert driver.model.abilities.batching
    for one, wanted in zip(jobs(), expected, strict=True):
        assert driver.solo(one).tokens == wanted
    again = driver.run(*jobs())
    assert [result.tokens for result in again] == expected
    assert again[1].done.usage.cached_tokens >= LEAST_TOKENS


def test_choices_begin_each_with_the_prompt(anew: MakeDriver, expected: list[list[int]]) -> None:
    result = anew(FAMILY).solo(job("1", TEXTS[1], ignore_eos=True, choices=2))
    assert result.tokens_of(0) == result.tokens_of(1) == expected[1]


@pytest.mark.parametrize("tokens", [1, 2])
def test_an_answer_may_end_where_it_begins(
    tokens: int, anew: MakeDriver, expected: list[list[int]]
) -> None:
    results = anew(FAMILY).run(*jobs(max_tokens=tokens))
    assert [result.tokens for result in results] == [one[:tokens] for one in expected]
    assert {result.finish_reason for result in results} == {"length"}


@pytest.mark.parametrize("cut", [0, 1, 7])
def test_the_rest_follows_elsewhere(cut: int, anew: MakeDriver) -> None:
    fields: dict[str, Any] = {"sampling": sampled(9, presence_penalty=1.0, repetition_penalty=1.3)}
    driver = anew(FAMILY)
    whole = driver.solo(job("x", TEXTS[1], **fields)).tokens
    rest = driver.solo(job("y", TEXTS[1], resume=[Resume(tokens=whole[:cut])], **fields))
    assert rest.tokens == whole[cut:]


def test_what_was_said_is_read_anew_as_part_of_a_prompt(anew: MakeDriver) -> None:
    driver = anew(FAMILY)
    first = driver.prompt(job("x", TEXTS[1]))
    said = driver.solo(job("x", TEXTS[1], ignore_eos=True)).tokens
    resumed = [Resume(tokens=said[:7])]
    driver.solo(job("y", TEXTS[1], ignore_eos=True, resume=resumed))
    later = job("z", prompt_ids=[*first.ids, *said, *first.ids], ignore_eos=True)
    answer = driver.solo(later).tokens
    assert answer == anew(FAMILY, prefix_cache_bytes=0).solo(later).tokens

"""A job that goes on elsewhere says the rest of what the first worker would have said."""

from __future__ import annotations

from typing import Any

import pytest

from shared.messages import Resume
from tests.worker.engine.conftest import MakeDriver
from tests.worker.engine.driving import GREEDY, job, picture, sampled

RULES: dict[str, dict[str, Any]] = {
    "greedy": {"sampling": GREEDY},
    "sampled": {"sampling": sampled(8, top_p=0.9)},
    "penalized": {"sampling": sampled(9, presence_penalty=1.0, repetition_penalty=1.3)},
}


@pytest.mark.parametrize("rules", RULES)
@pytest.mark.parametrize("cut", [0, 1, 7, 15])
def test_the_rest_follows_without_gap_or_repetition(rules: str, cut: int, anew: MakeDriver) -> None:
    fields = {**RULES[rules], "max_tokens": 16}
    images = [picture("green")]
    whole = anew().solo(job("x", "What is it?", images, **fields))
    seen = whole.tokens[:cut]
    before = [delta for delta in whole.deltas if delta.sequence < cut]
    resumed = anew().solo(job("x2", "What is it?", images, resume=[Resume(tokens=seen)], **fields))
    assert resumed.tokens == whole.tokens[cut:]
    assert "".join(delta.text for delta in before) + resumed.text == whole.text
    assert resumed.finish_reason == whole.finish_reason
    assert resumed.done.usage.completion_tokens == len(whole.tokens)
    assert resumed.deltas[0].sequence == 0


def test_choices_resume_each_where_it_was(anew: MakeDriver) -> None:
    fields: dict[str, Any] = {"sampling": sampled(4), "choices": 3, "max_tokens": 12}
    whole = anew().solo(job("x", "Hello", **fields))
    resume = [
        Resume(tokens=whole.tokens_of(0)[:5]),
        Resume(tokens=whole.tokens_of(1), finish_reason="length"),
        Resume(tokens=[]),
    ]
    rest = anew().solo(job("y", "Hello", resume=resume, **fields))
    assert rest.tokens_of(0) == whole.tokens_of(0)[5:]
    assert rest.tokens_of(1) == []
    assert rest.tokens_of(2) == whole.tokens_of(2)
    assert rest.done.usage.completion_tokens == 36


def test_what_is_complete_already_ends_at_once(anew: MakeDriver) -> None:
    driver = anew()
    whole = driver.solo(job("x", "Hello", max_tokens=6))
    over = driver.solo(job("y", "Hello", max_tokens=6, resume=[Resume(tokens=whole.tokens)]))
    assert over.tokens == []
    assert over.finish_reason == "length"
    assert over.done.usage.completion_tokens == 6


def test_resuming_works_within_a_batch(anew: MakeDriver) -> None:
    whole = anew().solo(job("x", "Hello", sampling=sampled(2), max_tokens=14))
    driver = anew()
    resumed, _ = driver.run(
        job(
            "y",
            "Hello",
            sampling=sampled(2),
            max_tokens=14,
            resume=[Resume(tokens=whole.tokens[:6])],
        ),
        job("z", "Something else", max_tokens=20),
    )
    assert resumed.tokens == whole.tokens[6:]

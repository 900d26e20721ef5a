"""What requests hold beside their bodies is counted."""

from __future__ import annotations

import sys

import pytest

from gateway.api.completions.models import CompletionRequest
from gateway.api.completions.render import MOST_ID_BYTES, CompletionRenderer
from gateway.api.held import LONG_CHARACTERS, REPETITIONS, bytes_beside_body
from gateway.generation import GenerationRequest
from shared.messages import ChatMessage, TextPart

LONG = LONG_CHARACTERS + 1


def asking(text: str) -> GenerationRequest:
    turn = ChatMessage(role="user", content=[TextPart(text=text)])
    return GenerationRequest(model=None, stream=True, messages=[turn])


@pytest.mark.parametrize(
    ("text", "bytes_a_letter"), [("x", 0), ("é", 1), ("你", 2), ("x" * LONG + "🙂", 4)]
)
def test_a_text_counts_as_wide_as_it_is(text: str, bytes_a_letter: int) -> None:
    long = text * LONG if len(text) == 1 else text
    expected = sys.getsizeof(long) if bytes_a_letter else 0
    assert expected // len(long) == bytes_a_letter
    prompted = GenerationRequest(model=None, stream=True, prompts=[long])
    for generation in (asking(long), prompted):
        assert bytes_beside_body(generation, len(long.encode())) == expected


def test_what_an_answer_repeats_counts_as_often_as_it_is_there() -> None:
    assert bytes_beside_body(asking("x"), 1, repeated_bytes=10) == 10 * REPETITIONS


@pytest.mark.parametrize(
    ("prompts", "size_bytes"), [(["xyz"], sys.getsizeof("xyz")), ([[1, 2]], 2 * MOST_ID_BYTES)]
)
def test_an_echo_counts_for_each_choice(prompts: list[str | list[int]], size_bytes: int) -> None:
    for echo, counted in ((True, 3 * size_bytes), (False, 0)):
        body = CompletionRequest(prompt="xyz", echo=echo)
        generation = GenerationRequest(
            model=None, stream=True, prompts=prompts, choices=3, echo=echo
        )
        assert CompletionRenderer(body, generation).repeated_bytes == counted

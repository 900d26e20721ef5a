"""What a request holds in memory beside its body and its images."""

from __future__ import annotations

import sys
from collections.abc import Iterator

from gateway.generation import GenerationRequest
from shared.messages import TextPart

REPETITIONS = 3
"""What an answer repeats is there as it came, or ready as JSON, and in two events that are written
together or as a text and the body with it."""

LONG_CHARACTERS = 1 << 16
"""Shorter texts are not worth looking at one by one."""


def bytes_beside_body(
    generation: GenerationRequest, body_bytes: int, repeated_bytes: int = 0
) -> int:
    """
    Args:
        repeated_bytes: what of the request its answer repeats.
    """
    wide = _wide_bytes(generation) if body_bytes > LONG_CHARACTERS else 0
    return wide + REPETITIONS * repeated_bytes


def _wide_bytes(generation: GenerationRequest) -> int:
    """A text with one letter beyond Latin-1 takes two or four bytes for each; and once it has been
    sent to a worker, it is kept in UTF-8 beside that, which the body's size stands for."""
    long = (text for text in _texts(generation) if len(text) > LONG_CHARACTERS)
    return sum(sys.getsizeof(text) for text in long if not text.isascii())


def _texts(generation: GenerationRequest) -> Iterator[str]:
    for turn in generation.messages:
        for part in turn.content:
            if isinstance(part, TextPart):
                yield part.text
    for prompt in generation.prompts:
        if isinstance(prompt, str):
            yield prompt

"""mlx-vlm alone: one prompt, in one piece, with empty caches and all its pixels, then one token a
step."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import mlx.core as mx

from worker.engine.model.inputs import PromptInputs
from worker.engine.model.model import LoadedModel


def plain_logprobs(model: LoadedModel, prompt: PromptInputs, tokens: Sequence[int]) -> mx.array:
    """What mlx-vlm's own generation thinks of every token at each place of a given answer: where
    two tokens are about as likely, it goes on with the one that was said.

    Returns:
        [tokens, vocabulary], in the model's precision, computed.

    Raises:
        Exception: whatever mlx-vlm's model trips over.
    """
    # Not before it is needed: all kinds of generation come with it, half a second's worth.
    from mlx_vlm.generate import generate_step

    said: Iterator[int] = iter([*tokens, tokens[-1]])  # it computes one more than it yields

    def say(logprobs: mx.array) -> mx.array:
        return mx.array([next(said)])

    arrays: dict[str, Any] = dict(prompt.inputs)
    ids = mx.array([prompt.ids])
    pixels = arrays.pop("pixel_values", None)
    mask = arrays.pop("attention_mask", None)
    steps = generate_step(
        ids,
        model.network,
        pixels,
        mx.ones_like(ids) if mask is None else mask,
        max_tokens=len(tokens),
        sampler=say,
        prefill_step_size=None,
        **arrays,
    )
    found = mx.stack([logprobs.reshape(-1) for _, logprobs in steps])
    mx.eval(found)
    return found

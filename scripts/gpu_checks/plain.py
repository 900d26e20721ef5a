"""The plainest way that mlx-vlm has: one prompt, one row, no cache of ours."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mlx_vlm.generate import generate_step
from mlx_vlm.utils import prepare_inputs

from worker.engine.model.loading import load_weights
from worker.engine.prepare.preprocess import decode_image


class PlainModel:
    """A checkpoint as mlx-vlm itself runs it."""

    def __init__(self, folder: Path) -> None:
        self._network, self._processor = load_weights(folder)

    def answer(self, prompt: str, images: Sequence[bytes], count: int) -> list[int]:
        """Return `count` tokens, greedily, whatever they are."""
        ids, pixels, mask, rest = self._inputs(prompt, images)
        steps = generate_step(
            ids, self._network, pixels, mask, max_tokens=count, temperature=0.0, **rest
        )
        return [int(token) for token, _ in steps]

    def _inputs(self, prompt: str, images: Sequence[bytes]) -> tuple[Any, Any, Any, dict[str, Any]]:
        inputs = prepare_inputs(
            self._processor,
            images=[decode_image(data) for data in images] or None,
            prompts=prompt,
            image_token_index=getattr(self._network.config, "image_token_index", None),
        )
        ids, pixels = inputs.pop("input_ids"), inputs.pop("pixel_values", None)
        mask = inputs.pop("attention_mask", None)
        tokenizer = getattr(self._processor, "tokenizer", self._processor)
        if ids.shape[1] > 1 and ids[0, 0].item() == ids[0, 1].item() == tokenizer.bos_token_id:
            # The template has written what the tokenizer writes, too.
            ids, mask = ids[:, 1:], None if mask is None else mask[:, 1:]
        return ids, pixels, mask, inputs

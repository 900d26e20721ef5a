"""mlx-vlm alone: one prompt, with empty caches and all its pixels, then one token a step."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Sequence
from typing import Any

import mlx.core as mx
from mlx_vlm.utils import prepare_inputs, should_add_special_tokens

from worker.engine.model.model import LoadedModel
from worker.engine.prepare.preprocess import Prompt, decode_image, token_ids

log = logging.getLogger(__name__)


class Plain:
    """What mlx-vlm's own generation thinks of every token along given answers.

    Attributes:
        seconds_a_token: of the prompt whose tokens took the least.
    """

    def __init__(self, model: LoadedModel) -> None:
        self._model = model
        self._whole = False
        self.seconds_a_token = math.inf

    def logprobs(
        self, prompt: Prompt, pictures: Sequence[bytes], tokens: Sequence[int]
    ) -> mx.array:
        """Where two tokens are about as likely, it goes on with the one that was said.

        Args:
            prompt: read by the engine, whose text and pictures mlx-vlm reads anew.

        Returns:
            [tokens, vocabulary], in the model's precision, computed.

        Raises:
            Exception: whatever mlx-vlm's model trips over.
        """
        started = time.perf_counter()
        ids, inputs = self._read(prompt, pictures)
        found = self._whole_or_not(ids, inputs, tokens)
        spent = (time.perf_counter() - started) / len(ids)
        self.seconds_a_token = min(self.seconds_a_token, spent)
        return found

    def _whole_or_not(
        self, ids: list[int], inputs: dict[str, Any], tokens: Sequence[int]
    ) -> mx.array:
        try:
            return self._along(ids, inputs, tokens, whole=self._whole)
        except Exception:
            # A few language models (phi, stablelm) have another name for their tokens than
            # mlx-vlm uses where it cuts a prompt's last token off.
            if self._whole:
                raise
            log.debug("mlx-vlm alone has failed, and is asked in one piece", exc_info=True)
        found = self._along(ids, inputs, tokens, whole=True)
        self._whole = True
        return found

    def _read(self, prompt: Prompt, pictures: Sequence[bytes]) -> tuple[list[int], dict[str, Any]]:
        if not pictures:
            return prompt.ids, {}
        model = self._model
        found = prepare_inputs(
            model.processor,
            images=[decode_image(data) for data in pictures],
            prompts=prompt.text,
            image_token_index=model.family.image_token_index,
            add_special_tokens=should_add_special_tokens(model.model_type, model.processor),
        )
        inputs = {name: value for name, value in found.items() if value is not None}
        ids = token_ids(inputs)
        del inputs["input_ids"]
        if len(ids) > len(prompt.ids):  # a second start token, beside the template's own
            del inputs["attention_mask"]
        return ids[-len(prompt.ids) :], inputs

    def _along(
        self, prompt_ids: list[int], inputs: dict[str, Any], tokens: Sequence[int], *, whole: bool
    ) -> mx.array:
        # Not before it is needed: all kinds of generation come with it, half a second's worth.
        from mlx_vlm.generate import generate_step

        found: list[mx.array] = []

        def say(logprobs: mx.array) -> mx.array:
            found.append(logprobs.reshape(-1))
            return mx.array([tokens[len(found) - 1]])

        ids, arrays = mx.array([prompt_ids]), dict(inputs)
        pixels = arrays.pop("pixel_values", None)
        mask = arrays.pop("attention_mask", None)
        # Either way all at once, however long it is.
        arrays["prefill_step_size"] = None if whole else len(prompt_ids)
        steps = generate_step(
            ids,
            self._model.network,
            pixels,
            mx.ones_like(ids) if mask is None else mask,
            max_tokens=len(tokens) - 1,  # it computes one more than it yields
            sampler=say,
            **arrays,
        )
        for _ in steps:
            pass
        stacked = mx.stack(found)
        mx.eval(stacked)
        return stacked

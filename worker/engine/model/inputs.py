"""A prompt on its way into a model: tokens and pixels, then embeddings that can be cut anywhere."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import mlx.core as mx
import numpy as np
import numpy.typing as npt
from mlx.utils import tree_flatten

from worker.engine.cache.arrays import to_host
from worker.engine.model.vision_tower import ImageKeys

ALONG_THE_PROMPT = {
    "attention_mask": -1,
    "deepstack_visual_embeds": 1,
    "mm_token_type_ids": -1,
    "per_layer_inputs": 1,
    "pos_hw": 1,
    "position_ids": -1,
    "token_type_ids": -1,
    "visual_pos_masks": 1,
}
"""Keyword inputs of language models that are cut with the prompt where they are arrays, and which
of their axes runs along it."""


@dataclass(frozen=True)
class PromptInputs:
    """A prompt as the network takes it.

    Attributes:
        inputs: what the processor made of the images, as MLX arrays.
        image_keys: the images' hashes, in order.
        spared: how many of the first images need no features, since a cache holds what would be
            made of them.
    """

    ids: list[int]
    inputs: Mapping[str, Any] = field(default_factory=dict)
    image_keys: ImageKeys = ()
    spared: int = 0


@dataclass
class Embedded:
    """A whole prompt as the language model takes it.

    Attributes:
        embeds: [1, length, width].
        aligned: keyword inputs with an axis along the prompt, sliced with it.
        fixed: the others.
        rope_delta: [1, 1]; what to add to a token's index to get its position, for models with
            multimodal rotary positions; else None.
    """

    embeds: mx.array
    aligned: dict[str, mx.array] = field(default_factory=dict)
    fixed: dict[str, Any] = field(default_factory=dict)
    rope_delta: mx.array | None = None

    @property
    def length(self) -> int:
        """How many embeddings there are: not always as many as tokens."""
        return self.embeds.shape[1]

    def part(self, start: int, stop: int) -> tuple[mx.array, dict[str, Any]]:
        """Embeddings and keyword inputs of the tokens `start` to `stop`."""
        length = self.length
        inputs: dict[str, Any] = dict(self.fixed)
        for name, value in self.aligned.items():
            inputs[name] = _sliced(value, ALONG_THE_PROMPT[name], start, stop, length)
        mask = self.aligned.get("visual_pos_masks")
        if mask is not None and "deepstack_visual_embeds" in self.fixed:
            # These have one row per image token, not per token.
            before = to_host(mask[:, :start].sum())
            inside = to_host(mask[:, start:stop].sum())
            layers = inputs["deepstack_visual_embeds"]
            inputs["deepstack_visual_embeds"] = [
                layer[before : before + inside] for layer in layers
            ]
            if not inside:
                del inputs["deepstack_visual_embeds"], inputs["visual_pos_masks"]
        return self.embeds[:, start:stop], inputs

    def is_blank(self, start: int) -> bool:
        """Whether anything from this token on is made of features that were not there."""
        arrays = [leaf for _, leaf in tree_flatten(self.part(start, self.length))]
        blank = [
            mx.isnan(array).any()
            for array in arrays
            if isinstance(array, mx.array) and mx.issubdtype(array.dtype, mx.floating)
        ]
        return bool(mx.stack(blank).any())

    def is_plain(self) -> bool:
        """Whether prompts like this can be left-padded and prefilled together."""
        return not self.fixed and not set(self.aligned) - {"position_ids"}


def sorted_inputs(given: dict[str, Any], length: int, *, rope_deltas: bool) -> Embedded:
    """Sort what a network made of a prompt of so many tokens.

    Args:
        rope_deltas: whether the language model wants a `rope_delta` in any case.
    """
    embedded = Embedded(embeds=given.pop("inputs_embeds"))
    given.pop("attention_mask_4d", None)
    delta = given.pop("rope_deltas", None)
    if rope_deltas:
        embedded.rope_delta = _one_delta(delta)
    for name, value in given.items():
        if name in ALONG_THE_PROMPT and isinstance(value, mx.array):
            embedded.aligned[name] = value
        elif value is not None:
            embedded.fixed[name] = value
    if "position_ids" in embedded.aligned:
        # Positions are known: models need no grids to work them out again.
        for name in [name for name in embedded.fixed if name.endswith("_grid_thw")]:
            del embedded.fixed[name]
    return embedded


@dataclass(frozen=True)
class OnHost:
    """An MLX array on its way from one thread to another: its own stream stays behind.

    Attributes:
        values: of bfloat16, which NumPy has not, as float32.
    """

    values: npt.NDArray[Any]
    dtype: mx.Dtype

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> npt.NDArray[Any]:
        """NumPy reads it as an array."""
        return np.asarray(self.values, dtype)


def off_mlx(value: Any) -> Any:
    """The same with every MLX array, in any nesting, on the host."""
    if isinstance(value, mx.array):
        known = value.astype(mx.float32) if value.dtype == mx.bfloat16 else value
        return OnHost(np.array(known), value.dtype)
    return _within(value, off_mlx)


def to_mlx(value: Any) -> Any:
    """The same with what `off_mlx` has put on the host in MLX's hands again."""
    if isinstance(value, OnHost):
        return mx.array(value.values).astype(value.dtype)
    return _within(value, to_mlx)


def _within(value: Any, change: Callable[[Any], Any]) -> Any:
    if isinstance(value, dict):
        return {name: change(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return type(value)([change(one) for one in value])
    return value


def _one_delta(delta: Any) -> mx.array:
    if not isinstance(delta, mx.array):
        return mx.zeros((1, 1), mx.int32)
    return delta.reshape(-1)[:1].reshape(1, 1).astype(mx.int32)


def _sliced(value: mx.array, axis: int, start: int, stop: int, length: int) -> mx.array:
    """Slice along an axis; what is not as long as the prompt there is for all of it."""
    if value.shape[axis] != length:
        return value
    return value[..., start:stop] if axis == -1 else value[:, start:stop]


def left_padded(
    parts: Sequence[tuple[mx.array, dict[str, Any]]], padding: Sequence[int]
) -> tuple[mx.array, dict[str, Any]]:
    """Join plain prompts of unlike lengths into rows.

    Args:
        parts: of each, its embeddings [1, length, width] and keyword inputs.
        padding: how many tokens come before each.

    Returns:
        Embeddings [rows, longest, width], and positions where all have some.
    """
    embeds = [_padded(embeds, pad, 1) for (embeds, _), pad in zip(parts, padding, strict=True)]
    positions = [inputs["position_ids"] for _, inputs in parts if "position_ids" in inputs]
    joined = mx.concatenate(embeds)
    if len(positions) < len(parts):
        return joined, {}
    return joined, {"position_ids": _padded_positions(positions, padding)}


def _padded(value: mx.array, pad: int, axis: int) -> mx.array:
    if not pad:
        return value
    widths = [(0, 0)] * value.ndim
    widths[axis] = (pad, 0)
    return mx.pad(value, widths)


def _padded_positions(positions: Sequence[mx.array], padding: Sequence[int]) -> mx.array:
    """Join [1, length] or [3, 1, length] positions into [rows, longest] or [3, rows, longest]."""
    multimodal = any(value.ndim == 3 for value in positions)
    rows = []
    for value, pad in zip(positions, padding, strict=True):
        if multimodal and value.ndim == 2:
            value = mx.broadcast_to(value[None], (3, *value.shape))
        rows.append(_padded(value.astype(mx.int32), pad, value.ndim - 1))
    return mx.concatenate(rows, axis=1 if multimodal else 0)

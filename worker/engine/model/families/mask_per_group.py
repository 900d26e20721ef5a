"""Gemma 2 adds a batch's mask [rows, 1, length, keys] to scores [rows, heads, group, length, keys]:
that fails, or fits and is wrong where there are as many rows as key-value heads. Its attention is
handed one with an axis for the group.
"""

from __future__ import annotations

from typing import Any

import mlx.core as mx
import mlx.nn as nn

from worker.engine.model.family import Family

MODEL_TYPES = frozenset({"gemma2"})


class MaskPerGroup(nn.Module):  # type: ignore[misc]
    """Gemma 2's attention, with a mask that has as many axes as its scores."""

    def __init__(self, attention: nn.Module) -> None:
        super().__init__()
        self.attention = attention

    def __call__(self, x: mx.array, mask: mx.array | None = None, cache: Any = None) -> mx.array:
        if mask is not None and mask.ndim == 4 and self.attention.repeats > 1:
            mask = mask[:, :, None]
        result: mx.array = self.attention(x, mask, cache)
        return result


def adjusted(family: Family, network: nn.Module) -> Family:
    for layer in network.language_model.layers:
        if not isinstance(layer.self_attn, MaskPerGroup):
            layer.self_attn = MaskPerGroup(layer.self_attn)
    return family

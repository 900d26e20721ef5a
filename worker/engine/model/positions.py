"""Rotary positions of models that keep a prompt's to themselves: taken out, and told in every call.

Otherwise prompts that are computed side by side read one another's.
"""

from __future__ import annotations

import mlx.core as mx
import mlx.nn as nn

from worker.engine.cache.kv import Cache

STATE = ("_position_ids", "_rope_deltas")
"""Where mlx-vlm's language models keep them, from one prompt's embedding to the next one's."""


class PositionState:
    """
    Args:
        axes: of a position (time, height, width).
    """

    def __init__(self, language: nn.Module, axes: int) -> None:
        self._language = language
        self._axes = axes

    def clear(self) -> None:
        for name in STATE:
            setattr(self._language, name, None)

    def take(self, length: int) -> dict[str, mx.array]:
        """Positions [axes, 1, length] of the prompt just embedded, and the [1, 1] that its tokens'
        indices and positions differ by after it."""
        positions, delta = (getattr(self._language, name) for name in STATE)
        self.clear()
        if positions is None:
            positions = mx.broadcast_to(mx.arange(length), (self._axes, 1, length))
        return {
            "position_ids": positions,
            "rope_deltas": mx.zeros((1, 1), mx.int32) if delta is None else delta,
        }

    def after(self, cache: Cache, tokens: mx.array, deltas: mx.array | None) -> mx.array:
        """Positions [axes, rows, length] of tokens that go on where a cache ends.

        Args:
            tokens: [rows, length].
            deltas: [rows, 1], as `take` told them.
        """
        offsets = mx.array(cache[0].offset).reshape(-1, 1)
        positions = offsets + mx.arange(tokens.shape[1])
        positions = positions if deltas is None else positions + deltas
        return mx.broadcast_to(positions, (self._axes, *tokens.shape))

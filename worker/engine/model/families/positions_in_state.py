"""Rotary positions of a prompt with pictures are left in the language model (`_position_ids`,
`_rope_deltas`) instead of being returned, where the next prompt overwrites them. Later calls read
them there, whosever they are.

These language models take `position_ids` in every call and then do not look at their state.
"""

from __future__ import annotations

from dataclasses import replace

import mlx.nn as nn

from worker.engine.model.family import Family

MODEL_TYPES = frozenset({"glm4v", "glm4v_moe", "glm_ocr", "minicpmo", "paddleocr_vl"})
AXES = 3
"""Time, height, width."""


def adjusted(family: Family, network: nn.Module) -> Family:
    return replace(family, position_axes=AXES)

"""One array of patches for all pictures, counted by `grid_thw`: attention stays within each, so
that the tower yields for one picture what it yields for it in any company.

Not kimi_vl, whose `grid_thw` counts pixels of four axes, and not where the model looks at features
of all pictures before it puts them in their places.
"""

from __future__ import annotations

from dataclasses import replace

import mlx.nn as nn

from worker.engine.model.family import Family, Split

MODEL_TYPES = frozenset(
    {
        "dots_ocr",
        "glm4v",
        "glm4v_moe",
        "glm_ocr",
        "paddleocr_vl",
        "qwen2_5_vl",
        "qwen2_vl",
        "qwen3_5",
        "qwen3_5_moe",
        "qwen3_vl",
        "qwen3_vl_moe",
    }
)


def adjusted(family: Family, network: nn.Module) -> Family:
    return replace(family, split=Split.BY_GRID)

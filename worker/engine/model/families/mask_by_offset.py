"""Attention that cuts its mask to the longest row's tokens, not to the keys that it is handed: rows
in slots, whose keys are wider, do not fit. These rows are padded on the left, as mlx-vlm has them.
"""

from __future__ import annotations

from dataclasses import replace

import mlx.nn as nn

from worker.engine.model.family import Family

MODEL_TYPES = frozenset({"hunyuan_vl", "qwen3_omni_moe", "qwen3_vl_moe"})


def adjusted(family: Family, network: nn.Module) -> Family:
    return replace(family, slots=False)

"""Pixels of [pictures or tiles, ...], of which the tower looks at each by itself."""

from __future__ import annotations

from dataclasses import replace

import mlx.nn as nn

from worker.engine.model.family import Family, Split

MODEL_TYPES = frozenset(
    {
        "aya_vision",
        "gemma3",
        "gemma4",
        "idefics2",
        "idefics3",
        "internvl",
        "internvl_chat",
        "llava",
        "llava_onevision",
        "smolvlm",
    }
)


def adjusted(family: Family, network: nn.Module) -> Family:
    return replace(family, split=Split.BY_ROW)

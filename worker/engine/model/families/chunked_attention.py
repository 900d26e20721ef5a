"""Attention within chunks: layers drop the keys and values of chunks that are over, so that a cache
kept for one prompt cannot be cut back to where another one parts from it.
"""

from __future__ import annotations

import mlx.nn as nn

from worker.engine.model.family import Family

MODEL_TYPES = frozenset({"llama4", "llama4_text"})


def adjusted(family: Family, network: nn.Module) -> Family:
    return family.without("prefix_cache")

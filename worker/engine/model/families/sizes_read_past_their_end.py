"""DeepSeek-VL2's model goes through as many rows of `images_spatial_crop` [1, pictures, 2] as there
are tiles, more than it has, and ends at a row of zeros; beyond an array MLX reads whatever lies
there, so that about the same picture it said one thing and then another. DeepSeek's own code goes
through the rows that there are. Rows of zeros are put behind them.
"""

from __future__ import annotations

from functools import wraps
from typing import Any

import mlx.core as mx
import mlx.nn as nn
from mlx_vlm.models.base import InputEmbeddingsFeatures

from worker.engine.model.family import Family

MODEL_TYPES = frozenset({"deepseek_vl_v2"})


def adjusted(family: Family, network: nn.Module) -> Family:
    if "get_input_embeddings" not in vars(network):
        network.get_input_embeddings = _within_its_sizes(network.get_input_embeddings)
    return family


def _within_its_sizes(embed: Any) -> Any:
    @wraps(embed)
    def ended(
        input_ids: mx.array | None = None,
        pixel_values: mx.array | None = None,
        images_spatial_crop: mx.array | None = None,
        **given: Any,
    ) -> InputEmbeddingsFeatures:
        if pixel_values is not None and images_spatial_crop is not None:
            missing = max(0, pixel_values.shape[1] - images_spatial_crop.shape[1])
            images_spatial_crop = mx.pad(images_spatial_crop, [(0, 0), (0, missing), (0, 0)])
        return embed(input_ids, pixel_values, images_spatial_crop, **given)

    return ended

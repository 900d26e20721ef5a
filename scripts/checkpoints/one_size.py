"""Makes small what has one size in mlx-vlm, whatever a configuration says.

Two towers are written down there as the published models have them, with hundreds of millions of
weights. Only the process that asks for it sees them smaller: it must build, load and compare a
checkpoint all by itself.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial


def make_small(name: str) -> None:
    """Make a family's towers small, if they are of one size."""
    MAKERS.get(name, _nothing)()


def _phi3_v() -> None:
    from mlx_vlm.models.phi3_v.vision import VisionModel

    tower = VisionModel.CLIP_VIT_LARGE_PATCH14_336_CONFIG
    tower.num_hidden_layers, tower.intermediate_size = 2, 64


def _deepseekocr() -> None:
    from mlx_vlm.models.deepseekocr import deepseekocr

    # Within windows alone: a picture has 4096 patches, whatever its size.
    small = partial(deepseekocr.SAMViTConfig, width=32, layers=1, heads=2, global_attn_indexes=())
    deepseekocr.SAMViTConfig = small


def _fastvlm() -> None:
    from mlx_vlm.models.fastvlm.config import VisionConfig

    VisionConfig.layers, VisionConfig.embed_dims = [1] * 5, [16, 16, 16, 32, 32]


def _gemma3n() -> None:
    from mlx_vlm.models.gemma3n import config, vision

    fusion = vision.MobileNetV5MultiScaleFusionAdapter
    edge = config.EdgeResidualConfig
    inverted = partial(config.UniversalInvertedResidualConfig, 5, 5, strides=2)
    attention = config.MultiQueryAttentionBlockConfig(num_heads=2, kv_dim=8)
    wide, wider = inverted(filters=16), inverted(filters=32)
    stages = [[edge(filters=16, strides=2)], [wide], [wide, attention], [wider, attention]]
    vision.gemma3n_mobilenet_def = lambda: stages
    vision.MobileNetV5MultiScaleFusionAdapter = lambda **_: fusion([16 + 32], 32, (2, 2))


def _nothing() -> None:
    pass


MAKERS: dict[str, Callable[[], None]] = {
    "deepseekocr": _deepseekocr,
    "fastvlm": _fastvlm,
    "gemma3n": _gemma3n,
    "phi3_v": _phi3_v,
}

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


def _nothing() -> None:
    pass


MAKERS: dict[str, Callable[[], None]] = {"phi3_v": _phi3_v, "deepseekocr": _deepseekocr}

"""What a model takes, told from its configuration and its files' headers alone.

Cached keys and values are as wide as the projections that make them, which every checkpoint has,
while many configurations leave the numbers of heads to their class's defaults. What each layer
keeps of a long row (all of it, a window) only the configuration can tell; where it does not, all is
assumed.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from worker.engine.model.config import context_tokens, read_json
from worker.host.safetensors_header import Tensor, read_tensors

HALF = frozenset({"F16", "BF16"})
FLOATS = HALF | {"F32"}
NOT_KEPT = re.compile(r"(^|\.)(mtp|rotary_emb\.inv_freq|position_ids)(\.|$)")
"""Tensors that mlx-vlm leaves where they are."""
NOT_LANGUAGE = re.compile(
    r"vision|visual|(^|[._])(vit|sam|tower|encoder|resampler|perceiver|projector|connector|talker"
    r"|audio|code2wav|image_newline|img_processor|cross_attn|mtp)([._]|$)|siglip|_tower"
)
"""Where a checkpoint holds what sees and hears; attention there keeps nothing from step to step."""
LAYER = re.compile(r"(?:^|\.)(?:layers|blocks|h)\.(\d+)\.")
TEXT_PARTS = ("text_config", "llm_config", "language_config")
SLIDING_PATTERNS = {"gemma3": 6, "gemma3_text": 6, "cohere2": 4, "aya_vision": 4}
"""Every so many layers one keeps all; a default of the model's class, which files leave out."""
SLIDING_TYPES = frozenset({"sliding_attention", "chunked_attention"})


@dataclass(frozen=True)
class LayerEstimate:
    """
    Attributes:
        a_token: bytes of keys and values.
        most_tokens: how many of them are kept; None: all.
    """

    a_token: int
    most_tokens: int | None = None


@dataclass(frozen=True)
class Estimate:
    """
    Attributes:
        weight_bytes: of the model in memory.
        layers: that keep keys and values.
        context_tokens: most tokens of prompt plus answer; None: unknown.
        vision: whether the configuration names a part that sees.
    """

    weight_bytes: int
    layers: tuple[LayerEstimate, ...]
    context_tokens: int | None
    vision: bool

    @property
    def bytes_per_token(self) -> int:
        """Of a short row's cache."""
        return sum(layer.a_token for layer in self.layers)

    def row_bytes(self, tokens: int) -> int:
        """What the cache of a row of so many tokens takes."""
        return sum(
            layer.a_token * min(tokens, layer.most_tokens or tokens) for layer in self.layers
        )


def estimate_folder(folder: Path, *, widened: bool) -> Estimate:
    """
    Args:
        widened: whether half precision becomes float32, as it does where there is no GPU.

    Raises:
        ModelError: `config.json` is not one.
        HeaderError: there are no weights, or they are damaged.
    """
    return estimate(read_json(folder / "config.json"), read_tensors(folder), widened=widened)


def estimate(
    config: Mapping[str, Any], tensors: Mapping[str, Tensor], *, widened: bool
) -> Estimate:
    """
    Args:
        config: content of `config.json`.
        tensors: of all files, by name.
    """
    kept = {name: tensor for name, tensor in tensors.items() if not NOT_KEPT.search(name)}
    return Estimate(
        weight_bytes=sum(_loaded_bytes(tensor, widened=widened) for tensor in kept.values()),
        layers=tuple(_layers(config, kept, 4 if widened else _float_bytes(kept.values()))),
        context_tokens=context_tokens(config, None),
        vision=any(config.get(part) for part in ("vision_config", "vision_tower", "vit_config")),
    )


def _loaded_bytes(tensor: Tensor, *, widened: bool) -> int:
    return tensor.elements * 4 if widened and tensor.dtype in HALF else tensor.nbytes


def _float_bytes(tensors: Iterable[Tensor]) -> int:
    """Of a number that is computed with: the type that most tensors have which are no packed
    numbers."""
    types = Counter(tensor.dtype for tensor in tensors if tensor.dtype in FLOATS)
    return 4 if types and types.most_common(1)[0][0] == "F32" else 2


def _layers(
    config: Mapping[str, Any], tensors: Mapping[str, Tensor], float_bytes: int
) -> list[LayerEstimate]:
    text = text_part(config)
    projections: dict[int, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        found = LAYER.search(name)
        parts = name.split(".")
        if found and parts[-1] == "weight" and not NOT_LANGUAGE.search(name):
            projections.setdefault(int(found[1]), {})[parts[-2]] = tensor
    owners = sorted(projections)
    shared = text.get("num_kv_shared_layers") or 0
    if 0 < shared < len(owners):  # the last ones look at what those before them keep
        owners = owners[:-shared]
    widths = {index: _kept_width(projections[index], text) for index in owners}
    return [
        LayerEstimate(width * float_bytes, _window(text, index))
        for index, width in widths.items()
        if width
    ]


def text_part(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """The language model's part of a configuration, wherever its family has put it."""
    for part in ("thinker_config", *TEXT_PARTS):
        inner = config.get(part)
        if isinstance(inner, Mapping):
            return text_part(inner)
    return config


def _kept_width(projections: Mapping[str, Tensor], text: Mapping[str, Any]) -> int:
    """How many numbers a layer keeps of a token; 0 where it is no attention.

    A projection's first axis is what it gives, packed or not.
    """

    def out(*names: str) -> int:
        return next((projections[name].shape[0] for name in names if name in projections), 0)

    if keys := out("k_proj", "wk", "key"):
        return keys + (out("v_proj", "wv", "value") or keys)
    if latent := out("kv_a_proj_with_mqa"):
        heads = text.get("num_attention_heads") or 1
        expanded = out("kv_b_proj")
        return expanded + heads * (text.get("qk_rope_head_dim") or 0) if expanded else latent
    if fused := out("qkv_proj", "wqkv", "query_key_value", "att_proj", "c_attn"):
        return max(0, fused - _query_width(text))
    return 0


def _query_width(text: Mapping[str, Any]) -> int:
    width = int(text.get("hidden_size") or text.get("d_model") or 0)
    head = text.get("head_dim")
    return int(head * text["num_attention_heads"]) if head else width


def _window(text: Mapping[str, Any], index: int) -> int | None:
    """How many tokens a layer keeps; None: all."""
    window = text.get("sliding_window") or text.get("attention_chunk_size")
    if not isinstance(window, int):
        return None
    kinds = text.get("layer_types")
    if isinstance(kinds, list) and index < len(kinds):
        return window if kinds[index] in SLIDING_TYPES else None
    default = SLIDING_PATTERNS.get(str(text.get("model_type")))
    pattern = text.get("sliding_window_pattern") or default
    if isinstance(pattern, int) and pattern > 1:
        return None if index % pattern == pattern - 1 else window
    return None

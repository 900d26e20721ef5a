"""A model's family: what the engine must know of it beside its weights, in one record.

Most of it is read off what mlx-vlm has loaded. What cannot be read off is stated, a file for each
quirk, in `families/`. Whether the engine is right to go by it is shown when the model is loaded
(`worker.engine.proof`), which switches off what does not hold.
"""

from __future__ import annotations

import enum
import inspect
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Any

import mlx.nn as nn
from mlx_vlm.models import cache as kv
from mlx_vlm.models.base import BaseImageProcessor
from mlx_vlm.prompt_utils import SINGLE_IMAGE_ONLY_MODELS

from worker.engine.model.config import image_token_ids

TOWERS = ("vision_tower", "vision_model", "vision_encoder", "visual", "vit")
"""Where most of mlx-vlm's models hold what encodes pictures."""


class Split(enum.Enum):
    """How the call of a tower with several pictures is taken apart into one for each."""

    NOT = "not at all: it is called as mlx-vlm calls it"
    BY_GRID = "its pixels are the patches of all pictures, which `grid_thw` counts"
    BY_ROW = "each picture, or each tile, is a row of its pixels and of all its other arrays"


@dataclass(frozen=True)
class Abilities:
    """What the engine may do with a model beyond answering one text at a time.

    Attributes:
        pictures: answer about a picture.
        several_pictures: answer about more than one in a prompt.
        picture_splitting: encode each picture of a prompt by itself.
        vision_cache: go on from a picture's features as they were encoded for another prompt.
        prefix_cache: go on from keys and values computed for another prompt.
        pieces: prefill a prompt in several pieces.
        batching: prefill and decode rows of several prompts together.
        speculation: feed a row several tokens at once, and take back those that it does not say.
    """

    pictures: bool = True
    several_pictures: bool = True
    picture_splitting: bool = True
    vision_cache: bool = True
    prefix_cache: bool = True
    pieces: bool = True
    batching: bool = True
    speculation: bool = True

    def without(self, *names: str) -> Abilities:
        """The same with these switched off."""
        return replace(self, **dict.fromkeys(names, False))

    def as_dict(self) -> dict[str, bool]:
        return {field.name: getattr(self, field.name) for field in fields(self)}


@dataclass(frozen=True)
class Family:
    """
    Attributes:
        model_type: as its configuration calls it.
        placeholders: the tokens in whose places the features of pictures go; empty if unknown, and
            then prompts with pictures share nothing with any other.
        image_token_index: what mlx-vlm's own preparation of inputs is told of them.
        tower: the module that encodes pictures, as a dotted path from the network; None: its
            features are neither remembered nor computed in steps.
        split: how its calls are taken apart.
        position_axes: for models that leave a prompt's rotary positions in their own state: how
            many axes these have. They are taken out, kept with the prompt, and said in every call.
            0: the model tells them, or has none.
        rope_deltas: whether its language model is told each row's offset of rotary positions.
        last_with_prompt: whether a prompt's last token goes in as the prompt has it, since an
            answer's tokens are embedded in another way.
        slots: whether its attention may be handed more keys than the longest row has tokens.
        abilities: what may be done with it.
    """

    model_type: str
    placeholders: frozenset[int] = frozenset()
    image_token_index: int | None = None
    tower: str | None = None
    split: Split = Split.NOT
    position_axes: int = 0
    rope_deltas: bool = False
    last_with_prompt: bool = False
    slots: bool = True
    abilities: Abilities = Abilities()

    def without(self, *abilities: str) -> Family:
        """The same with these abilities switched off."""
        return replace(self, abilities=self.abilities.without(*abilities))


def derived(network: nn.Module, processor: Any) -> Family:
    """What mlx-vlm's model and processor say themselves."""
    language = getattr(network, "language_model", network)
    family = Family(
        model_type=str(network.config.model_type),
        placeholders=image_token_ids(network),
        image_token_index=getattr(network.config, "image_token_index", None),
        tower=next((name for name in TOWERS if isinstance(network.get(name), nn.Module)), None),
        rope_deltas="_rope_deltas" in vars(language),
    )
    if not _takes_pictures(network, processor):
        family = family.without("pictures", "several_pictures")
    if family.model_type in SINGLE_IMAGE_ONLY_MODELS:
        family = family.without("several_pictures")
    if not all(can_batch(layer) for layer in kv.make_prompt_cache(language)):
        family = family.without("batching")
    return family


def can_batch(layer: Any) -> bool:
    """Whether caches of this layer's kind can be merged into that of a batch."""
    if isinstance(layer, kv.CacheList):
        return all(can_batch(child) for child in layer.caches)
    return hasattr(type(layer), "merge")


def _takes_pictures(network: nn.Module, processor: Any) -> bool:
    """mlx-vlm hands pictures to the processor as `images`, or to an image processor of its own
    beside a tokenizer, and what it makes of them to the network as `pixel_values`: other
    tokenizers, and models of text alone, do not take them."""
    has_own = isinstance(getattr(processor, "image_processor", None), BaseImageProcessor)
    return (has_own or _takes(type(processor).__call__, "images")) and _takes(
        network.get_input_embeddings, "pixel_values"
    )


def _takes(function: Callable[..., Any], name: str) -> bool:
    return name in inspect.signature(function).parameters

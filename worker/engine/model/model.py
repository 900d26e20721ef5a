"""A loaded model: token ids and pixel inputs in, logits out, whatever the family.

What families differ in stands in their record (`family.py`).
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx.nn as nn
from mlx.utils import tree_flatten
from mlx_vlm.models import cache as kv

from worker.engine.cache.footprint import Footprint
from worker.engine.cache.kv import Cache, heads, is_plain
from worker.engine.cache.vision import VisionCache
from worker.engine.interface import ModelFacts, Report
from worker.engine.model import download, loading
from worker.engine.model.config import (
    SamplingDefaults,
    context_tokens,
    eos_ids,
    ids_of,
    read_json,
    sampling_defaults,
)
from worker.engine.model.device import device_name
from worker.engine.model.families import family_of
from worker.engine.model.family import Abilities, Split
from worker.engine.model.inputs import Embedded, PromptInputs, sorted_inputs, to_mlx
from worker.engine.model.positions import PositionState
from worker.engine.model.streams import Streams
from worker.engine.model.vision_tower import CachedVisionTower, MoreToEncode
from worker.engine.options import EngineOptions
from worker.engine.text.harmony import ENDS, speaks_harmony

TRIED_TOKENS = 8
IMAGE_INPUTS = frozenset({"pixel_values", "attention_mask"})
"""Inputs that are of no use once the embeddings are there."""


class LoadedModel:
    """
    Attributes:
        folder: that it was loaded from.
        processor: mlx-vlm's; for text-only models the tokenizer itself.
        family: what is known of models of its kind.
        abilities: what may be done with this one: the family's, less what its proof switches off.
        eos_ids: tokens that end an answer.
        context_tokens: most tokens of prompt plus answer; None: unknown.
        vocabulary: how many logits it has.
        footprint: what a row's cache takes.
        proven: which abilities were tried, and whether the model's answers were right with them.
        lengthens: whether it was seen to make other numbers of embeddings of prompts with pictures
            than they have tokens.
        kv_heads: of the language model's attention; 0: unknown.
        has_plain_caches: whether rows may be kept in slots: each layer keeps all keys and values.
        weight_bytes: of the language model, which a decode step reads.
        tower: computes its pictures' features and remembers them; None where that is not known.
        streams: where pictures and prompts are computed side by side.
    """

    def __init__(
        self,
        folder: Path,
        network: nn.Module,
        processor: Any,
        config: Mapping[str, Any],
        defaults: SamplingDefaults,
        options: EngineOptions,
    ) -> None:
        self.folder = folder
        self.processor = processor
        self.defaults = defaults
        self.tokenizer = getattr(processor, "tokenizer", processor)
        self.network = network
        self.family = family_of(network, processor)
        self.abilities = self.family.abilities
        self._language = getattr(network, "language_model", network)
        self.eos_ids = eos_ids(network, processor, self.tokenizer)
        if speaks_harmony(self.chat_template):
            self.eos_ids |= ids_of(self.tokenizer, ENDS)
        self.context_tokens = context_tokens(config, options.max_context)
        self.proven: Mapping[str, bool] = {}
        self.lengthens = False
        self.vision_cache = VisionCache(options.vision_cache_bytes)
        self.streams = Streams.of_this_machine()
        self.tower = self._make_tower()
        axes = self.family.position_axes
        self._positions = PositionState(self._language, axes) if axes else None
        cache = self.new_cache()
        self.has_plain_caches = is_plain(cache) and self.family.slots
        if not self.has_plain_caches:
            self.family = self.family.without("speculation")
            self.abilities = self.family.abilities
        self.weight_bytes = _weight_bytes(self._language)
        self.vocabulary = self.try_out(1, TRIED_TOKENS, cache).shape[-1]
        self.footprint = Footprint.measured(cache, TRIED_TOKENS)
        self.kv_heads = heads(cache)

    def allow(self, abilities: Abilities, vision_cache_bytes: int) -> None:
        """Go by these abilities from now on, and by nothing that is remembered."""
        self.abilities = abilities
        self.vision_cache.clear()
        self.vision_cache.limit_bytes = vision_cache_bytes if abilities.vision_cache else 0
        if self.tower is not None:
            self.tower.split = self.family.split if self.splits_pictures else Split.NOT

    @property
    def bytes_per_token(self) -> float:
        return self.footprint.bytes_per_token

    # --- facts -----------------------------------------------------------------------------

    def facts(self) -> ModelFacts:
        return ModelFacts(
            device=device_name(),
            vision=self.abilities.pictures,
            proven=dict(self.proven),
            context_tokens=self.context_tokens,
            versions=loading.versions(),
        )

    @property
    def model_type(self) -> str:
        """As its configuration calls it."""
        return self.family.model_type

    @property
    def batchable(self) -> bool:
        """Whether rows can be decoded together."""
        return self.abilities.batching

    @property
    def splits_pictures(self) -> bool:
        """Whether pictures are encoded each by itself, so that company changes nothing of them."""
        return self.abilities.picture_splitting and self.family.split is not Split.NOT

    @property
    def uses_rope_deltas(self) -> bool:
        """Whether its language model is told each row's offset of rotary positions."""
        return self.family.rope_deltas

    @property
    def chat_template(self) -> str | None:
        """The template that renders conversations; None if the model has none."""
        for owner in (self.processor, self.tokenizer):
            template = getattr(owner, "chat_template", None)
            if isinstance(template, dict):
                template = template.get("default") or next(iter(template.values()), None)
            if template:
                return str(template)
        return None

    @property
    def image_marker(self) -> str:
        """The text that stands for an image where a template does not take lists."""
        for owner in (self.processor, self.tokenizer):
            marker = getattr(owner, "image_token", None)
            if isinstance(marker, str) and marker:
                return marker
        return "<image>"

    # --- computing ---------------------------------------------------------------------------

    def new_cache(self) -> Cache:
        return list(kv.make_prompt_cache(self._language))

    def embed(
        self, prompt: PromptInputs, seconds: float = math.inf, beside: Sequence[PromptInputs] = ()
    ) -> Embedded:
        """Look up the prompt's embeddings, with image features in their places.

        Args:
            seconds: how long the images may take in this call, about.
            beside: prompts that come next, one less than there are streams at most; their images
                get on meanwhile.

        Raises:
            MoreToEncode: time is up; call again to go on.
        """
        ended_at = time.perf_counter() + seconds
        tower = self.tower
        if tower is not None and prompt.image_keys:
            tower.keep_only({prompt.image_keys, *(other.image_keys for other in beside)})
        while True:
            try:
                found = self._input_embeddings(prompt)
                break
            except MoreToEncode:
                assert tower is not None
                self._begin_images(tower, beside)
                tower.advance(prompt.image_keys, ended_at)
                if time.perf_counter() >= ended_at:
                    raise  # what comes after the images can wait for the next call
        given = {name: prompt.inputs[name] for name in prompt.inputs if name not in IMAGE_INPUTS}
        embedded = sorted_inputs(
            {**given, **found}, len(prompt.ids), rope_deltas=self.uses_rope_deltas
        )
        mx.eval(embedded.embeds)
        if tower is not None:
            tower.end(prompt.image_keys)
        return embedded

    def _begin_images(self, tower: CachedVisionTower, prompts: Sequence[PromptInputs]) -> None:
        """Set their images on their way, those that are not yet."""
        for prompt in prompts:
            if prompt.spared < len(prompt.image_keys) and not tower.knows(prompt.image_keys):
                with contextlib.suppress(Exception):  # it fails again when it is its turn
                    self._input_embeddings(prompt)

    def has_encoded(self, prompt: PromptInputs) -> bool:
        """Whether its images were encoded beside another prompt's, or need not be, so that `embed`
        is quick."""
        if self.tower is None:
            return False
        none_left = prompt.spared == len(prompt.image_keys)
        return none_left or self.tower.has_done(prompt.image_keys)

    def length_of(self, ids: list[int], inputs: Mapping[str, Any]) -> int:
        """How many embeddings it makes of a prompt. That takes no computing: MLX knows the shapes
        of what it has not computed.

        Args:
            inputs: what the processor made of the images, off MLX.
        """
        if not (self.lengthens and inputs):
            return len(ids)
        arrays = {name: to_mlx(value) for name, value in inputs.items()}
        embeds: mx.array = self._network_embeddings(PromptInputs(ids, arrays))["inputs_embeds"]
        return embeds.shape[1]

    def _input_embeddings(self, prompt: PromptInputs) -> dict[str, Any]:
        """What the network makes of the prompt, with the pictures' features as they come; raises
        `MoreToEncode` and what it raises."""
        if self.tower is None:
            return self._network_embeddings(prompt)
        with self.tower.standing_in(prompt.image_keys, prompt.spared):
            return self._network_embeddings(prompt)

    def _network_embeddings(self, prompt: PromptInputs) -> dict[str, Any]:
        arrays = dict(prompt.inputs)
        pixels = arrays.pop("pixel_values", None)
        mask = arrays.pop("attention_mask", None)
        tokens = mx.array([prompt.ids])
        if mask is None:
            mask = mx.ones_like(tokens)
        if self._positions is not None:
            self._positions.clear()
        found = self.network.get_input_embeddings(tokens, pixels, mask=mask, **arrays)
        given = {name: value for name, value in found.to_dict().items() if value is not None}
        return given if self._positions is None else given | self._positions.take(len(prompt.ids))

    def forward(
        self,
        tokens: mx.array,
        cache: Cache,
        embeds: mx.array | None = None,
        inputs: Mapping[str, Any] | None = None,
        rope_deltas: mx.array | None = None,
    ) -> mx.array:
        """Run the language model, lazily; `cache` takes up the new keys and values.

        Args:
            tokens: [rows, length].
            embeds: [rows, length, width] instead of the tokens' own embeddings.
            rope_deltas: [rows, 1].

        Returns:
            Logits [rows, length, vocabulary].
        """
        keywords = dict(inputs or {})
        if embeds is not None:
            keywords["inputs_embeds"] = embeds
        if rope_deltas is not None:
            keywords["rope_deltas"] = rope_deltas
        if self._positions is not None and "position_ids" not in keywords:
            keywords["position_ids"] = self._positions.after(cache, tokens, rope_deltas)
        output = self._language(tokens, cache=cache, **keywords)
        logits: mx.array = getattr(output, "logits", output)
        return logits

    def takes_chunks(self, ids: Sequence[int], embedded: Embedded, cache: Cache) -> bool:
        """Whether this prompt of these tokens may be prefilled in pieces: not where attention
        looks ahead."""
        keywords = {**embedded.aligned, **embedded.fixed}
        for module in (self.network, self._language):
            policy = getattr(module, "chunked_prefill_policy", None)
            if callable(policy):
                verdict = policy(
                    input_ids=mx.array([list(ids)]),
                    inputs_embeds=embedded.embeds,
                    prompt_cache=cache,
                    prefill_kwargs=keywords,
                )
                return bool(getattr(verdict, "enabled", verdict))
        modules = (self.network, self._language)
        return not any(getattr(module, "no_chunked_prefill", False) for module in modules)

    def try_out(self, rows: int, tokens: int, cache: Cache | None = None) -> mx.array:
        """Run the language model on so many rows of made-up tokens; return the logits, computed.

        One row goes in as embeddings, as in prefill, several as tokens, as in decode.

        Args:
            cache: takes up the keys and values; None: an empty one that is thrown away.
        """
        ids = mx.zeros((rows, tokens), mx.int32)
        deltas = mx.zeros((rows, 1), mx.int32) if self.uses_rope_deltas else None
        embeds: mx.array | None = None
        inputs: dict[str, Any] = {}
        if rows == 1:
            embeds, inputs = self.embed(PromptInputs([0] * tokens)).part(0, tokens)
        cache = self.new_cache() if cache is None else cache
        logits = self.forward(ids, cache, embeds, inputs, deltas)
        mx.eval(logits)
        return logits

    def _make_tower(self) -> CachedVisionTower | None:
        path = self.family.tower
        if path is None or not self.abilities.pictures:
            return None
        return CachedVisionTower(
            self.network, path, self.family.split, self.vision_cache, self.streams
        )


def _weight_bytes(language: nn.Module) -> int:
    weights = (value for _, value in tree_flatten(language.parameters()))
    return sum(value.nbytes for value in weights if isinstance(value, mx.array))


def load_model(options: EngineOptions, report: Report) -> LoadedModel:
    """
    Raises:
        ModelError: the model cannot be served.
    """
    trusted = options.trust_remote_code
    folder = download.resolve_folder(
        options.model_path,
        lambda done, total: report(0.8 * done / total),
        trust_remote_code=trusted,
    )
    report(0.8)
    network, processor = loading.load_weights(folder, trust_remote_code=trusted)
    config = read_json(folder / "config.json")
    defaults = sampling_defaults(read_json(folder / "generation_config.json"))
    model = LoadedModel(folder, network, processor, config, defaults, options)
    report(0.9)
    return model

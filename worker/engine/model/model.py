"""A loaded model, and all that the engine must know of mlx-vlm's models and their quirks.

This is the one place where attributes are looked up by name because models differ. What the rest
sees: token ids and pixel inputs in, logits out, whatever the family.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import numpy as np
from mlx.utils import tree_flatten
from mlx_vlm.models.cache import make_prompt_cache

from worker.engine.cache.arrays import to_host
from worker.engine.cache.kv import Cache, can_merge, can_trim, size_bytes
from worker.engine.cache.vision import VisionCache
from worker.engine.interface import ModelFacts
from worker.engine.model import loading
from worker.engine.model.device import device_name
from worker.engine.model.streams import Streams
from worker.engine.model.vision_tower import CachedVisionTower, ImageKeys, MoreToEncode
from worker.engine.options import EngineOptions
from worker.engine.text.harmony import ENDS, speaks_harmony

CONTEXT_NAMES = ("max_position_embeddings", "max_sequence_length", "seq_length", "n_positions")
TOWER_NAMES = ("vision_tower", "vision_model", "vision_encoder", "visual", "vit")
SEQUENCE_ALIGNED = frozenset(
    {
        "attention_mask",
        "mm_token_type_ids",
        "per_layer_inputs",
        "pos_hw",
        "position_ids",
        "token_type_ids",
        "visual_pos_masks",
    }
)
"""Keyword inputs of language models whose last (or second) axis runs along the prompt."""


IMAGE_INPUTS = frozenset({"pixel_values", "attention_mask"})
"""Inputs that are of no use once the embeddings are there."""


@dataclass(frozen=True)
class SamplingDefaults:
    """What a request means when it leaves a sampling parameter out."""

    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    repetition_penalty: float = 1.0


@dataclass(frozen=True)
class PromptInputs:
    """A prompt as the network takes it.

    Attributes:
        inputs: what the processor made of the images, as MLX arrays.
        image_keys: the images' hashes, in order.
    """

    ids: list[int]
    inputs: Mapping[str, Any] = field(default_factory=dict)
    image_keys: ImageKeys = ()


@dataclass
class Embedded:
    """A whole prompt as the language model takes it.

    Attributes:
        embeds: [1, length, width].
        aligned: keyword inputs with an axis along the prompt, sliced with it.
        fixed: the others.
        rope_delta: [1, 1]; what to add to a token's index to get its position, for models with
            multimodal rotary positions; else None.
    """

    embeds: mx.array
    aligned: dict[str, mx.array] = field(default_factory=dict)
    fixed: dict[str, Any] = field(default_factory=dict)
    rope_delta: mx.array | None = None

    def part(self, start: int, stop: int) -> tuple[mx.array, dict[str, Any]]:
        """Embeddings and keyword inputs of the tokens `start` to `stop`."""
        length = self.embeds.shape[1]
        inputs: dict[str, Any] = dict(self.fixed)
        for name, value in self.aligned.items():
            inputs[name] = _sliced(value, start, stop, length)
        mask = self.aligned.get("visual_pos_masks")
        if mask is not None and "deepstack_visual_embeds" in inputs:
            # These have one row per image token, not per token.
            before = to_host(mask[:, :start].sum())
            inside = to_host(mask[:, start:stop].sum())
            layers = inputs["deepstack_visual_embeds"]
            inputs["deepstack_visual_embeds"] = [
                layer[before : before + inside] for layer in layers
            ]
            if not inside:
                del inputs["deepstack_visual_embeds"], inputs["visual_pos_masks"]
        return self.embeds[:, start:stop], inputs

    def is_plain(self) -> bool:
        """Whether prompts like this can be left-padded and prefilled together."""
        return not self.fixed and not set(self.aligned) - {"position_ids"}


class LoadedModel:
    """
    Attributes:
        processor: mlx-vlm's; for text-only models the tokenizer itself.
        eos_ids: tokens that end an answer.
        image_token_ids: placeholders that stand where image features go.
        context_tokens: most tokens of prompt plus answer; None: unknown.
        batchable: whether rows can be decoded together.
        weight_bytes: of the language model, which a decode step reads.
        streams: where pictures and prompts are computed side by side.
    """

    def __init__(
        self,
        network: nn.Module,
        processor: Any,
        config: Mapping[str, Any],
        defaults: SamplingDefaults,
        options: EngineOptions,
    ) -> None:
        self.processor = processor
        self.defaults = defaults
        self.tokenizer = getattr(processor, "tokenizer", processor)
        self.model_type = str(network.config.model_type)
        self._network = network
        self._language = getattr(network, "language_model", network)
        self.eos_ids = _eos_ids(network, processor, self.tokenizer)
        if speaks_harmony(self.chat_template):
            self.eos_ids |= _ids_of(self.tokenizer, ENDS)
        self.image_token_ids = _image_token_ids(network)
        self.image_token_index = getattr(network.config, "image_token_index", None)
        self.context_tokens = _context_tokens(config, options.max_context)
        self.vision_cache = VisionCache(options.vision_cache_bytes)
        self.streams = Streams.of_this_machine()
        self._tower = self._install_tower()
        self.vision = self._tower is not None
        self.uses_rope_deltas = hasattr(self._language, "_rope_deltas")
        cache = self.new_cache()
        self.batchable = can_merge(cache)
        self.trimmable = can_trim(cache)
        self.vocabulary = 0
        self.bytes_per_token = 0.0
        self.weight_bytes = _weight_bytes(self._language)

    # --- facts -----------------------------------------------------------------------------

    def facts(self) -> ModelFacts:
        return ModelFacts(
            device=device_name(),
            vision=self.vision,
            context_tokens=self.context_tokens,
            versions=loading.versions(),
        )

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
        return list(make_prompt_cache(self._language))

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
        tower = self._tower
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
        embedded = self._sorted_inputs({**given, **found}, len(prompt.ids))
        mx.eval(embedded.embeds)
        if tower is not None:
            tower.end(prompt.image_keys)
        return embedded

    def _begin_images(self, tower: CachedVisionTower, prompts: Sequence[PromptInputs]) -> None:
        """Set their images on their way, those that are not yet."""
        for prompt in prompts:
            if not tower.knows(prompt.image_keys):
                with contextlib.suppress(Exception):  # it fails again when it is its turn
                    self._input_embeddings(prompt)

    def has_encoded(self, prompt: PromptInputs) -> bool:
        """Whether its images were encoded beside another prompt's, so that `embed` is quick."""
        return self._tower is not None and self._tower.has_done(prompt.image_keys)

    def _input_embeddings(self, prompt: PromptInputs) -> dict[str, Any]:
        """What the network makes of the prompt; raises `MoreToEncode` and what it raises."""
        arrays = dict(prompt.inputs)
        pixels = arrays.pop("pixel_values", None)
        mask = arrays.pop("attention_mask", None)
        tokens = mx.array([prompt.ids])
        if mask is None:
            mask = mx.ones_like(tokens)
        if self._tower is not None:
            self._tower.begin(prompt.image_keys)
        found = self._network.get_input_embeddings(tokens, pixels, mask=mask, **arrays)
        return {name: value for name, value in found.to_dict().items() if value is not None}

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
        output = self._language(tokens, cache=cache, **keywords)
        logits: mx.array = getattr(output, "logits", output)
        return logits

    def takes_chunks(self, embedded: Embedded, cache: Cache) -> bool:
        """Whether this prompt may be prefilled in pieces: not where attention looks ahead."""
        keywords = {**embedded.aligned, **embedded.fixed}
        for module in (self._network, self._language):
            policy = getattr(module, "chunked_prefill_policy", None)
            if callable(policy):
                verdict = policy(
                    inputs_embeds=embedded.embeds, prompt_cache=cache, prefill_kwargs=keywords
                )
                return bool(getattr(verdict, "enabled", verdict))
        modules = (self._network, self._language)
        return not any(getattr(module, "no_chunked_prefill", False) for module in modules)

    def measure(self) -> None:
        """Find the vocabulary's size and what a token costs in key-value memory."""
        cache = self.new_cache()
        self.vocabulary = self.try_out(1, 8, cache).shape[-1]
        # Caches allocate in steps of 256 tokens; rotating ones stop growing at their window.
        self.bytes_per_token = size_bytes(cache) / 256

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

    # --- quirks ------------------------------------------------------------------------------

    def _install_tower(self) -> CachedVisionTower | None:
        for name in TOWER_NAMES:
            tower = getattr(self._network, name, None)
            if isinstance(tower, nn.Module):
                cached = CachedVisionTower(tower, self.vision_cache, self.streams)
                setattr(self._network, name, cached)
                return cached
        return None

    def _sorted_inputs(self, given: dict[str, Any], length: int) -> Embedded:
        embedded = Embedded(embeds=given.pop("inputs_embeds"))
        given.pop("attention_mask_4d", None)
        delta = given.pop("rope_deltas", None)
        if self.uses_rope_deltas:
            embedded.rope_delta = _one_delta(delta)
        for name, value in given.items():
            if name in SEQUENCE_ALIGNED and isinstance(value, mx.array):
                embedded.aligned[name] = value
            elif value is not None:
                embedded.fixed[name] = value
        if "position_ids" in embedded.aligned:
            # Positions are known: models need no grids to work them out again.
            for name in [name for name in embedded.fixed if name.endswith("_grid_thw")]:
                del embedded.fixed[name]
        return embedded


def sampling_defaults(generation: Mapping[str, Any]) -> SamplingDefaults:
    """Read `generation_config.json`; OpenAI's defaults where it is silent."""
    if generation.get("do_sample") is False:
        return SamplingDefaults(temperature=0.0)
    names = SamplingDefaults.__dataclass_fields__
    given = {name: generation[name] for name in names if generation.get(name) is not None}
    return SamplingDefaults(**given)


def _weight_bytes(language: nn.Module) -> int:
    weights = (value for _, value in tree_flatten(language.parameters()))
    return sum(value.nbytes for value in weights if isinstance(value, mx.array))


def _one_delta(delta: Any) -> mx.array:
    if not isinstance(delta, mx.array):
        return mx.zeros((1, 1), mx.int32)
    return delta.reshape(-1)[:1].reshape(1, 1).astype(mx.int32)


def _sliced(value: mx.array, start: int, stop: int, length: int) -> mx.array:
    """Slice along the prompt: the second axis, or the last one of [3, 1, length] positions."""
    if value.shape[-1] == length and (value.ndim == 2 or (value.ndim == 3 and value.shape[0] == 3)):
        return value[..., start:stop]
    if value.ndim >= 2 and value.shape[1] == length:
        return value[:, start:stop]
    return value


def to_mlx(value: Any) -> Any:
    return mx.array(value) if isinstance(value, np.ndarray) else value


def _eos_ids(network: nn.Module, processor: Any, tokenizer: Any) -> frozenset[int]:
    found: set[int] = set()
    criteria = getattr(tokenizer, "stopping_criteria", None)
    for ids in (
        getattr(criteria, "eos_token_ids", None),
        getattr(network.config, "eos_token_id", None),
        getattr(tokenizer, "eos_token_id", None),
        getattr(processor, "additional_eos_token_ids", None),
    ):
        if isinstance(ids, int):
            found.add(ids)
        elif ids is not None:
            found.update(int(token) for token in ids)
    return frozenset(found)


def _ids_of(tokenizer: Any, tokens: Sequence[str]) -> frozenset[int]:
    vocabulary = tokenizer.get_vocab()
    return frozenset(vocabulary[token] for token in tokens if token in vocabulary)


def _image_token_ids(network: nn.Module) -> frozenset[int]:
    names = ("image_token_id", "image_token_index", "video_token_id", "video_token_index")
    ids = (getattr(network.config, name, None) for name in names)
    return frozenset(token for token in ids if isinstance(token, int))


def _context_tokens(config: Mapping[str, Any], wanted: int | None) -> int | None:
    for part in (config.get("text_config"), config.get("llm_config"), config):
        for name in CONTEXT_NAMES:
            limit = part.get(name) if isinstance(part, Mapping) else None
            if isinstance(limit, int) and limit > 0:
                return min(limit, wanted) if wanted else limit
    return wanted


def load_model(options: EngineOptions, report: loading.Report) -> LoadedModel:
    """
    Raises:
        ModelError: the model cannot be served.
    """
    folder = loading.resolve_folder(options.model_path, lambda part: report(part * 0.8))
    report(0.8)
    network, processor = loading.load_weights(folder)
    config = loading.read_json(folder / "config.json")
    defaults = sampling_defaults(loading.read_json(folder / "generation_config.json"))
    model = LoadedModel(network, processor, config, defaults, options)
    model.measure()
    report(0.9)
    return model

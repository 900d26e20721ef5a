"""Writes a tiny checkpoint with random weights.

It says nonsense, but through the same files, processors, template and network as a real one.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import mlx.core as mx
from mlx.utils import tree_flatten, tree_map
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers

from scripts.checkpoints.families import ChatFormat, Json, family
from scripts.checkpoints.sizes import small_sizes

WORDS = (
    "The image shows a red circle at the top left and a blue square at the bottom right on a "
    "white background. What is in this image? How many shapes are there? There are two shapes. "
    'Hello, how are you? {"name": "get_weather", "arguments": {"city": "Paris"}} äöü 你好 世界 🙂 '
    "naïve 0123456789"
)
PLAIN_TOKENS = ("<think>", "</think>", "<tool_call>", "</tool_call>")
"""That are words of an answer, not special ones."""


def build(
    name: str,
    folder: Path,
    *,
    width: int = 64,
    layers: int = 2,
    context: int = 4096,
    vocabulary: int = 0,
    head: int = 16,
    dtype: str = "float32",
    seed: int = 7,
    generation: Json | None = None,
) -> Path:
    """Write a checkpoint into `folder` and return it.

    Args:
        name: of the family.
        width: of the language model; `head` is that of one of its attention heads.
        vocabulary: pads the logits to so many; 0: as many as the tokenizer has.
        dtype: of the weights.
        generation: content of `generation_config.json`, if there is to be one.
    """
    folder.mkdir(parents=True, exist_ok=True)
    made = family(name)
    tokenizer = _write_tokenizer(folder, made.chat(), made.fixed_ids)
    size = max(vocabulary, 1 + max(tokenizer.get_vocab().values()))
    special = {
        token.content: index for index, token in tokenizer.get_added_tokens_decoder().items()
    }
    config = made.config_for(_text_config(width, layers, size, context, head), special)
    if not made.most_pictures:
        config = {**small_sizes(config["model_type"]), **config}
    _write(folder / "config.json", config)
    _write(folder / "preprocessor_config.json", made.preprocessor)
    if made.processor:
        _write(folder / "processor_config.json", made.processor)
    if generation is not None:
        _write(folder / "generation_config.json", generation)
    _write_weights(folder, config, seed, dtype, made.embedding_scale)
    return folder


def _write_tokenizer(folder: Path, wanted: ChatFormat, fixed_ids: Mapping[str, int]) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=360,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator([WORDS] * 3, trainer)
    tokenizer = _with_tokens(tokenizer, fixed_ids)
    tokenizer.add_special_tokens([AddedToken(t, special=True) for t in wanted.special_tokens])
    tokenizer.add_tokens([AddedToken(token, special=False) for token in PLAIN_TOKENS])
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "chat_template.jinja").write_text(wanted.template)
    _write(
        folder / "tokenizer_config.json",
        {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "clean_up_tokenization_spaces": False,
            "model_max_length": 100_000,
            **wanted.names,
        },
    )
    return tokenizer


def _with_tokens(tokenizer: Tokenizer, fixed_ids: Mapping[str, int]) -> Tokenizer:
    """The same with these words in its vocabulary, and others that fill the gaps between ids."""
    if not fixed_ids:
        return tokenizer
    whole = json.loads(tokenizer.to_str())
    vocabulary = whole["model"]["vocab"] | fixed_ids
    gaps = set(range(max(fixed_ids.values()))) - set(vocabulary.values())
    whole["model"]["vocab"] = vocabulary | {f"<unused{index}>": index for index in gaps}
    return Tokenizer.from_str(json.dumps(whole))


def _text_config(width: int, layers: int, vocabulary: int, context: int, head: int) -> Json:
    return {
        "hidden_size": width,
        "num_hidden_layers": layers,
        "intermediate_size": width * 2,
        "num_attention_heads": width // head,
        "num_key_value_heads": max(1, width // (2 * head)),
        "head_dim": head,
        "rms_norm_eps": 1e-6,
        "vocab_size": vocabulary,
        "max_position_embeddings": context,
        "rope_theta": 10000.0,
        "tie_word_embeddings": False,
    }


def _write_weights(
    folder: Path, config: Json, seed: int, dtype: str, embedding_scale: float
) -> None:
    """Make mlx-vlm's network for this config and save its random weights, larger than usual.

    Larger, so that answers depend on the prompt and its images, and no two logits are near.
    """
    from mlx_vlm.utils import get_model_and_args, update_module_configs

    mx.random.seed(seed)
    architecture, _ = get_model_and_args(config)
    own = json.loads(json.dumps({"text_config": {}, "vision_config": {}, **config}))
    settings = architecture.ModelConfig.from_dict(own)
    modules = ["text", "vision", "perceiver", "projector", "audio"]
    settings = update_module_configs(settings, architecture, own, modules)
    network = architecture.Model(settings)

    def shaken(value: mx.array) -> mx.array:
        return mx.random.normal(value.shape) * (0.25 if value.ndim > 1 else 0.05) + (
            0.0 if value.ndim > 1 else value
        )

    shaken_ones: dict[str, mx.array] = dict(tree_flatten(tree_map(shaken, network.parameters())))
    if embedding_scale != 1.0:
        shaken_ones = {
            name: value * embedding_scale if "embed_tokens" in name else value
            for name, value in shaken_ones.items()
        }
    weights = {name: value.astype(getattr(mx, dtype)) for name, value in shaken_ones.items()}
    mx.save_safetensors(str(folder / "model.safetensors"), weights, metadata={"format": "mlx"})


def _write(path: Path, content: Any) -> None:
    path.write_text(json.dumps(content, indent=1))

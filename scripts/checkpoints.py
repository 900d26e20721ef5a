"""Tiny checkpoints with random weights, made on the spot: one for each family of models.

They say nonsense, but through the same files, processors, templates and networks as real ones.
"""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from typing import Any

import mlx.core as mx
from mlx.utils import tree_flatten, tree_map
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers

WORDS = (
    "The image shows a red circle at the top left and a blue square at the bottom right on a "
    "white background. What is in this image? How many shapes are there? There are two shapes. "
    'Hello, how are you? {"name": "get_weather", "arguments": {"city": "Paris"}} äöü 你好 世界 🙂 '
    "naïve 0123456789"
)

CHATML = (
    "{%- if tools %}<|im_start|>system\n<tools>{% for tool in tools %}{{ tool | tojson }}\n"
    '{% endfor %}</tools>\nUse <tool_call>{{ \'{\' }}"name": tool_call.name, "arguments": {}'
    "{{ '}' }}</tool_call><|im_end|>\n{% endif %}"
    "{%- for message in messages %}<|im_start|>{{ message.role }}\n"
    "{%- if message.content is string %}{{ message.content }}{% else %}"
    "{%- for part in message.content %}{% if part.type == 'image' %}IMAGE"
    "{%- else %}{{ part.text }}{% endif %}{% endfor %}{% endif %}"
    "{%- for call in message.tool_calls or [] %}<tool_call>{{ call.function | tojson }}</tool_call>"
    "{%- endfor %}<|im_end|>\n{% endfor %}"
    "{%- if add_generation_prompt %}<|im_start|>assistant\n"
    "{%- if enable_thinking %}<think>\n{% elif enable_thinking is false %}<think></think>"
    "{% endif %}{% endif %}"
)
GEMMA = (
    "{{ bos_token }}{% for message in messages %}<start_of_turn>"
    "{{ 'model' if message.role == 'assistant' else message.role }}\n"
    "{%- if message.content is string %}{{ message.content }}{% else %}"
    "{%- for part in message.content %}{% if part.type == 'image' %}<start_of_image>"
    "{%- else %}{{ part.text }}{% endif %}{% endfor %}{% endif %}<end_of_turn>\n{% endfor %}"
    "{%- if add_generation_prompt %}<start_of_turn>model\n{% endif %}"
)
# Takes nothing but lists, as the real ones of these families.
IDEFICS = (
    "<|im_start|>{% for message in messages %}{{ message.role | capitalize }}:"
    "{% for part in message.content %}{% if part.type == 'text' %}{{ part.text }}"
    "{% elif part.type == 'image' %}<image>{% endif %}{% endfor %}<end_of_utterance>\n{% endfor %}"
    "{% if add_generation_prompt %}Assistant:{% endif %}"
)
# Puts images before the text whatever the order, as the real one does.
LLAVA = (
    "{% for message in messages %}{{ message.role | upper }}: "
    "{% for part in message.content | selectattr('type', 'equalto', 'image') %}<image>\n"
    "{% endfor %}"
    "{% for part in message.content | selectattr('type', 'equalto', 'text') %}{{ part.text }}"
    "{% endfor %}\n{% endfor %}{% if add_generation_prompt %}ASSISTANT:{% endif %}"
)
LLAMA = (
    "{{ bos_token }}{% for message in messages %}<|start_header_id|>{{ message.role }}"
    "<|end_header_id|>\n\n{{ message.content | trim }}<|eot_id|>{% endfor %}"
    "{% if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>\n\n{% endif %}"
)

# As gpt-oss writes it, as far as the tests go.
HARMONY = (
    "{%- for tool in tools or [] %}<|start|>developer<|message|>{{ tool | tojson }}<|end|>"
    "{%- endfor %}{%- for message in messages %}<|start|>{{ message.role }}"
    "{%- if message.role == 'assistant' %}<|channel|>"
    "{%- if message.thinking %}analysis<|message|>{{ message.thinking }}<|end|>"
    "<|start|>assistant<|channel|>{% endif %}"
    "{%- for call in message.tool_calls or [] %}commentary to=functions."
    "{{ call.function.name }} <|constrain|>json<|message|>"
    "{{ call.function.arguments | tojson }}<|call|>{% else %}final<|message|>{{ message.content }}"
    "<|end|>{% endfor %}"
    "{%- else %}<|message|>{{ message.content }}<|end|>{% endif %}{% endfor %}"
    "{%- if add_generation_prompt %}<|start|>assistant{% endif %}"
)

QWEN_MARKS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>"]
QWEN_MARKS += ["<|image_pad|>", "<|video_pad|>"]
IDEFICS_MARKS = ["<|endoftext|>", "<|im_start|>", "<end_of_utterance>", "<image>"]
IDEFICS_MARKS += ["<fake_token_around_image>", "<global-img>"]
IDEFICS_MARKS += [f"<row_{row}_col_{col}>" for row in range(1, 4) for col in range(1, 4)]
GEMMA_MARKS = ["<pad>", "<eos>", "<bos>", "<start_of_turn>", "<end_of_turn>"]
GEMMA_MARKS += ["<start_of_image>", "<end_of_image>", "<image_soft_token>"]
LLAMA_MARKS = ["<|begin_of_text|>", "<|end_of_text|>", "<|eot_id|>"]
LLAMA_MARKS += ["<|start_header_id|>", "<|end_header_id|>"]
HARMONY_MARKS = ["<|return|>", "<|call|>", "<|start|>", "<|end|>", "<|message|>", "<|channel|>"]
HARMONY_MARKS += ["<|constrain|>", "<|endoftext|>"]
LLAVA_MARKS = ["<unk>", "<s>", "</s>", "<pad>", "<image>"]
PLAIN_MARKS = ["<think>", "</think>", "<tool_call>", "</tool_call>"]

FAMILIES = (
    "qwen2_vl",
    "qwen2_5_vl",
    "qwen3_vl",
    "gemma3",
    "idefics3",
    "smolvlm",
    "llava",
    "llama",
)


def build(
    family: str,
    folder: Path,
    *,
    width: int = 64,
    layers: int = 2,
    context: int = 4096,
    vocabulary: int = 0,
    seed: int = 7,
    generation: dict[str, Any] | None = None,
) -> Path:
    """Write a checkpoint into `folder` and return it.

    Args:
        width: of the language model; its heads are 16 wide.
        vocabulary: pads the logits to so many; 0: as many as the tokenizer has.
        generation: content of `generation_config.json`, if there is to be one.
    """
    folder.mkdir(parents=True, exist_ok=True)
    marks, template, names = _words_of(family)
    tokenizer = _tokenizer(folder, marks, names)
    (folder / "chat_template.jinja").write_text(template)
    size = max(vocabulary, tokenizer.get_vocab_size())
    text = _text_config(width, layers, size, context)
    config = _CONFIGS[family](text, tokenizer.token_to_id)
    _write(folder / "config.json", config)
    _write(folder / "preprocessor_config.json", _PROCESSORS.get(family, {}))
    if family in _PROCESSOR_EXTRAS:
        _write(folder / "processor_config.json", _PROCESSOR_EXTRAS[family])
    if generation is not None:
        _write(folder / "generation_config.json", generation)
    _write_weights(folder, config, seed)
    return folder


def _words_of(family: str) -> tuple[list[str], str, dict[str, str]]:
    """A family's special tokens, its template, and which of the tokens have names."""
    if family.startswith("qwen"):
        picture = "<|vision_start|><|image_pad|><|vision_end|>"
        names = {"eos_token": "<|im_end|>", "pad_token": "<|endoftext|>"}
        return QWEN_MARKS, CHATML.replace("IMAGE", picture), names
    if family == "gemma3":
        names = {
            "bos_token": "<bos>",
            "eos_token": "<eos>",
            "pad_token": "<pad>",
            "boi_token": "<start_of_image>",
            "eoi_token": "<end_of_image>",
            "image_token": "<image_soft_token>",
        }
        return GEMMA_MARKS, GEMMA, names
    if family in ("idefics3", "smolvlm"):
        names = {"eos_token": "<end_of_utterance>", "pad_token": "<|endoftext|>"}
        return IDEFICS_MARKS, IDEFICS, names
    if family == "llava":
        names = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>"}
        return LLAVA_MARKS, LLAVA, names
    if family == "gpt_oss":
        return HARMONY_MARKS, HARMONY, {"eos_token": "<|return|>", "pad_token": "<|endoftext|>"}
    names = {"bos_token": "<|begin_of_text|>", "eos_token": "<|eot_id|>"}
    return LLAMA_MARKS, LLAMA, names


def _tokenizer(folder: Path, marks: list[str], names: dict[str, str]) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=360,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator([WORDS] * 3, trainer)
    tokenizer.add_special_tokens([AddedToken(mark, special=True) for mark in marks])
    tokenizer.add_tokens([AddedToken(mark, special=False) for mark in PLAIN_MARKS])
    tokenizer.save(str(folder / "tokenizer.json"))
    _write(
        folder / "tokenizer_config.json",
        {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "clean_up_tokenization_spaces": False,
            "model_max_length": 100_000,
            **names,
        },
    )
    return tokenizer


def _text_config(width: int, layers: int, vocabulary: int, context: int) -> dict[str, Any]:
    return {
        "hidden_size": width,
        "num_hidden_layers": layers,
        "intermediate_size": width * 2,
        "num_attention_heads": width // 16,
        "num_key_value_heads": max(1, width // 32),
        "head_dim": 16,
        "rms_norm_eps": 1e-6,
        "vocab_size": vocabulary,
        "max_position_embeddings": context,
        "rope_theta": 10000.0,
        "tie_word_embeddings": False,
    }


MROPE = {"type": "mrope", "mrope_section": [2, 3, 3]}


def _qwen_marks(token_to_id: Any) -> dict[str, int]:
    return {
        "image_token_id": token_to_id("<|image_pad|>"),
        "video_token_id": token_to_id("<|video_pad|>"),
        "vision_start_token_id": token_to_id("<|vision_start|>"),
        "vision_end_token_id": token_to_id("<|vision_end|>"),
        "eos_token_id": token_to_id("<|im_end|>"),
    }


def _qwen2_vl(text: dict[str, Any], token_to_id: Any) -> dict[str, Any]:
    vision = {"depth": 2, "embed_dim": 32, "hidden_size": text["hidden_size"], "num_heads": 2}
    vision |= {"patch_size": 14, "model_type": "qwen2_vl", "mlp_ratio": 2}
    marks = _qwen_marks(token_to_id)
    return {
        **text,
        **marks,
        "model_type": "qwen2_vl",
        "rope_scaling": MROPE,
        "vision_config": vision,
    }


def _qwen2_5_vl(text: dict[str, Any], token_to_id: Any) -> dict[str, Any]:
    vision = {"depth": 2, "hidden_size": 32, "intermediate_size": 64, "num_heads": 2}
    vision |= {"out_hidden_size": text["hidden_size"], "patch_size": 14, "window_size": 56}
    vision |= {"fullatt_block_indexes": [1], "model_type": "qwen2_5_vl"}
    marks = _qwen_marks(token_to_id)
    names = {"model_type": "qwen2_5_vl", "rope_scaling": MROPE}
    return {**text, **marks, **names, "vision_config": vision}


def _qwen3_vl(text: dict[str, Any], token_to_id: Any) -> dict[str, Any]:
    vision = {"depth": 2, "hidden_size": 32, "intermediate_size": 64, "num_heads": 2}
    vision |= {"out_hidden_size": text["hidden_size"], "patch_size": 16}
    vision |= {"deepstack_visual_indexes": [0, 1], "num_position_embeddings": 64}
    vision |= {"model_type": "qwen3_vl"}
    own = {**text, "model_type": "qwen3_vl_text"}
    own["rope_scaling"] = {"rope_type": "default", "mrope_section": [2, 3, 3]}
    marks = _qwen_marks(token_to_id)
    return {**marks, "model_type": "qwen3_vl", "text_config": own, "vision_config": vision}


def _gemma3(text: dict[str, Any], token_to_id: Any) -> dict[str, Any]:
    vision = {"model_type": "siglip_vision_model", "num_hidden_layers": 2, "hidden_size": 32}
    vision |= {"intermediate_size": 64, "num_attention_heads": 2, "patch_size": 14}
    vision |= {"image_size": 56}
    own = {**text, "model_type": "gemma3_text", "sliding_window": 64, "sliding_window_pattern": 2}
    own |= {"mm_tokens_per_image": 4, "query_pre_attn_scalar": 16}
    return {
        "model_type": "gemma3",
        "hidden_size": text["hidden_size"],
        "image_token_index": token_to_id("<image_soft_token>"),
        "boi_token_index": token_to_id("<start_of_image>"),
        "eoi_token_index": token_to_id("<end_of_image>"),
        "mm_tokens_per_image": 4,
        "pad_token_id": token_to_id("<pad>"),
        "eos_token_id": [token_to_id("<eos>"), token_to_id("<end_of_turn>")],
        "text_config": own,
        "vision_config": vision,
    }


def _idefics(model_type: str) -> Any:
    def config(text: dict[str, Any], token_to_id: Any) -> dict[str, Any]:
        kind = "smolvlm_vision" if model_type == "smolvlm" else model_type
        vision = {"model_type": kind, "hidden_size": 32, "num_hidden_layers": 2}
        vision |= {"intermediate_size": 64, "num_attention_heads": 2, "patch_size": 14}
        vision |= {"image_size": 56}
        return {
            "model_type": model_type,
            "scale_factor": 2,
            "image_token_id": token_to_id("<image>"),
            "eos_token_id": token_to_id("<end_of_utterance>"),
            "vocab_size": text["vocab_size"],
            "text_config": {**text, "model_type": "llama"},
            "vision_config": vision,
        }

    return config


def _llava(text: dict[str, Any], token_to_id: Any) -> dict[str, Any]:
    vision = {"model_type": "clip_vision_model", "hidden_size": 32, "num_hidden_layers": 3}
    vision |= {"intermediate_size": 64, "num_attention_heads": 2, "patch_size": 14}
    vision |= {"image_size": 56, "projection_dim": 32}
    return {
        "model_type": "llava",
        "image_token_index": token_to_id("<image>"),
        "eos_token_id": token_to_id("</s>"),
        "text_config": {**text, "model_type": "llama"},
        "vision_config": vision,
    }


def _llama(text: dict[str, Any], token_to_id: Any) -> dict[str, Any]:
    ends = [token_to_id("<|end_of_text|>"), token_to_id("<|eot_id|>")]
    return {**text, "model_type": "llama", "eos_token_id": ends}


def _gpt_oss(text: dict[str, Any], token_to_id: Any) -> dict[str, Any]:
    experts = {"num_local_experts": 4, "num_experts_per_tok": 2, "sliding_window": 64}
    end = {"eos_token_id": token_to_id("<|return|>")}
    return {**text, **experts, **end, "model_type": "gpt_oss"}


_CONFIGS: dict[str, Any] = {
    "gpt_oss": _gpt_oss,
    "qwen2_vl": _qwen2_vl,
    "qwen2_5_vl": _qwen2_5_vl,
    "qwen3_vl": _qwen3_vl,
    "gemma3": _gemma3,
    "idefics3": _idefics("idefics3"),
    "smolvlm": _idefics("smolvlm"),
    "llava": _llava,
    "llama": _llama,
}

_QWEN_PIXELS = {"min_pixels": 56 * 56, "max_pixels": 112 * 112, "merge_size": 2}
_NORMAL = {"do_normalize": True, "image_mean": [0.5] * 3, "image_std": [0.5] * 3}
_TILES = {"do_image_splitting": True, "max_image_size": {"longest_edge": 56}}
_PROCESSORS: dict[str, dict[str, Any]] = {
    "qwen2_vl": {**_QWEN_PIXELS, "patch_size": 14, "image_processor_type": "Qwen2VLImageProcessor"},
    "qwen2_5_vl": {
        **_QWEN_PIXELS,
        "patch_size": 14,
        "image_processor_type": "Qwen2VLImageProcessor",
    },
    "qwen3_vl": {**_QWEN_PIXELS, "patch_size": 16, "image_processor_type": "Qwen2VLImageProcessor"},
    "gemma3": {
        **_NORMAL,
        "size": {"height": 56, "width": 56},
        "image_processor_type": "Gemma3ImageProcessor",
        "image_seq_length": 4,
    },
    "idefics3": {
        **_NORMAL,
        **_TILES,
        "size": {"longest_edge": 112},
        "image_processor_type": "Idefics3ImageProcessor",
    },
    "smolvlm": {
        **_NORMAL,
        **_TILES,
        "size": {"longest_edge": 112},
        "image_processor_type": "SmolVLMImageProcessor",
    },
    "llava": {
        **_NORMAL,
        "size": {"shortest_edge": 56},
        "crop_size": {"height": 56, "width": 56},
        "image_processor_type": "CLIPImageProcessor",
    },
}
_PROCESSOR_EXTRAS: dict[str, dict[str, Any]] = {
    "gemma3": {"processor_class": "Gemma3Processor", "image_seq_length": 4},
    "idefics3": {"processor_class": "Idefics3Processor", "image_seq_len": 4},
    "smolvlm": {"processor_class": "SmolVLMProcessor", "image_seq_len": 4},
    "llava": {
        "processor_class": "LlavaProcessor",
        "patch_size": 14,
        "vision_feature_select_strategy": "default",
        "num_additional_image_tokens": 1,
        "image_token": "<image>",
    },
}


def _write_weights(folder: Path, config: dict[str, Any], seed: int) -> None:
    """Make mlx-vlm's network for this config and save its random weights, larger than usual.

    Larger, so that answers depend on the prompt and its images, and no two logits are near.
    """
    from mlx_vlm.utils import get_model_and_args, update_module_configs

    mx.random.seed(seed)
    architecture, _ = get_model_and_args(config)
    own = json.loads(json.dumps(config))
    own.setdefault("text_config", {})
    own.setdefault("vision_config", {})
    settings = architecture.ModelConfig.from_dict(own)
    modules = ["text", "vision", "perceiver", "projector", "audio"]
    settings = update_module_configs(settings, architecture, own, modules)
    network = architecture.Model(settings)
    importlib.invalidate_caches()

    def shaken(value: mx.array) -> mx.array:
        return mx.random.normal(value.shape) * (0.25 if value.ndim > 1 else 0.05) + (
            0.0 if value.ndim > 1 else value
        )

    weights = dict(tree_flatten(tree_map(shaken, network.parameters())))
    mx.save_safetensors(str(folder / "model.safetensors"), weights, metadata={"format": "mlx"})


def _write(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=1))

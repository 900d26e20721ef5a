"""Write a trained model as a checkpoint that mlx-vlm loads."""

import json
from pathlib import Path

import torch
from safetensors.torch import save_file
from transformers import PreTrainedTokenizerFast

from scripts.demo_model.images import PREPROCESSOR_CONFIG
from scripts.demo_model.network import DemoModel, checkpoint_config
from scripts.demo_model.tokenizer import SPECIAL_TOKENS

GENERATION_CONFIG = {
    "do_sample": False,
    "eos_token_id": SPECIAL_TOKENS.index("<|im_end|>"),
    "pad_token_id": SPECIAL_TOKENS.index("<|endoftext|>"),
}


def export(model: DemoModel, tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
    """Write weights (half precision), tokenizer, chat template and configurations."""
    folder.mkdir(parents=True, exist_ok=True)
    weights = {
        name: weight.to(torch.float16).contiguous()
        for name, weight in model.state_dict().items()
        if not name.startswith("lesson_heads.")  # for training only
    }
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "model.safetensors").chmod(0o644)
    tokenizer.save_pretrained(folder)
    config = {**checkpoint_config(model.sizes), "torch_dtype": "float16"}
    for name, content in (
        ("config.json", config),
        ("preprocessor_config.json", PREPROCESSOR_CONFIG),
        ("generation_config.json", GENERATION_CONFIG),
    ):
        (folder / name).write_text(json.dumps(content, indent=2) + "\n")

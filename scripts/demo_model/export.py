"""Write a trained model as a checkpoint that mlx-vlm loads."""

from pathlib import Path

import torch
from safetensors.torch import save_file
from transformers import PreTrainedTokenizerFast

from scripts.demo_model.checkpoint import CHECKPOINT, CONFIGURATIONS
from scripts.demo_model.network import DemoModel


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
    for name in CONFIGURATIONS:
        (folder / name).write_bytes((CHECKPOINT / name).read_bytes())

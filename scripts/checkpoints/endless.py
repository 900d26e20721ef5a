"""A copy of a checkpoint that makes comparisons fair."""

from __future__ import annotations

import contextlib
import json
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file, save_file

HALF = ("float16", "bfloat16")


@contextlib.contextmanager
def endless_copy(checkpoint: Path) -> Iterator[Path]:
    """A copy whose end token is its padding token, which no answer contains, so that 64 tokens
    are 64 tokens. Off macOS its weights are float32: MLX's CPU kernels for half precision are
    slow, our worker converts when it loads, and others do not."""
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / checkpoint.name
        shutil.copytree(checkpoint, copy)
        padding_id = json.loads((copy / "config.json").read_text())["pad_token_id"]
        padding = json.loads((copy / "tokenizer_config.json").read_text())["pad_token"]
        _change(copy / "config.json", eos_token_id=padding_id)
        _change(copy / "generation_config.json", eos_token_id=padding_id)
        _change(copy / "tokenizer_config.json", eos_token=padding)
        if sys.platform != "darwin":
            _to_float32(copy)
        yield copy


def _to_float32(folder: Path) -> None:
    for path in folder.glob("*.safetensors"):
        weights = load_file(path)
        if any(value.dtype.name in HALF for value in weights.values()):
            single = {name: value.astype(np.float32) for name, value in weights.items()}
            save_file(single, path, metadata={"format": "mlx"})
    _change(folder / "config.json", torch_dtype="float32")


def _change(path: Path, **fields: Any) -> None:
    if path.exists():
        path.write_text(json.dumps(json.loads(path.read_text()) | fields))

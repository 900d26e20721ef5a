"""What headers tell of a model, against what it takes once it is loaded."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import mlx.core as mx
import mlx.nn as nn
import pytest
from mlx.utils import tree_flatten

from worker.engine.model.loading import load_weights
from worker.engine.model.model import load_model
from worker.engine.options import EngineOptions
from worker.host.estimate import estimate_folder
from worker.host.safetensors_header import HeaderError, read_tensors

TOLERANCE = 0.1


def weight_bytes(network: nn.Module) -> int:
    return sum(v.nbytes for _, v in tree_flatten(network.parameters()) if isinstance(v, mx.array))


def four_bit(folder: Path, into: Path) -> Path:
    """The same model with its language model's weights in four bits."""
    network, _ = load_weights(folder)
    nn.quantize(network.language_model, group_size=32, bits=4)
    into.mkdir()
    for file in folder.iterdir():
        if file.suffix != ".safetensors":
            (into / file.name).write_bytes(file.read_bytes())
    config = json.loads((folder / "config.json").read_text())
    config["quantization"] = {"group_size": 32, "bits": 4}
    (into / "config.json").write_text(json.dumps(config))
    weights = {
        name: value.astype(mx.bfloat16) if value.dtype == mx.float32 else value
        for name, value in tree_flatten(network.parameters())
    }
    mx.save_safetensors(str(into / "model.safetensors"), weights, metadata={"format": "mlx"})
    return into


@pytest.mark.parametrize("family", ["gemma3", "qwen2_vl", "pixtral", "qwen2_vl in 4 bits"])
def test_a_model_takes_what_its_headers_tell(
    checkpoint: Callable[[str], Path], tmp_path: Path, family: str
) -> None:
    folder = checkpoint(family.split()[0])
    if "4 bits" in family:
        folder = four_bit(folder, tmp_path / "model")
    told = estimate_folder(folder, widened=True)
    model = load_model(EngineOptions(model_path=str(folder)), lambda part: None)
    assert told.weight_bytes == pytest.approx(weight_bytes(model.network), rel=TOLERANCE)
    for tokens in (1, 100, 3000):
        measured = model.footprint.row_bytes(tokens)
        assert told.row_bytes(tokens) == pytest.approx(measured, rel=TOLERANCE)
    assert told.context_tokens == model.context_tokens
    assert told.vision


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(HeaderError, match="no safetensors"):
        read_tensors(tmp_path)
    for content in (b"", b"\xff" * 16, b"\x02" + bytes(7) + b"[]", b"\x08" + bytes(7) + b"{}"):
        (tmp_path / "model.safetensors").write_bytes(content)
        with pytest.raises(HeaderError, match=r"model\.safetensors"):
            read_tensors(tmp_path)

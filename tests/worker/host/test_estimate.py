"""What a model takes, told from its headers alone, is what its engine takes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from worker.engine.model import blas

blas.load()

import mlx.core as mx  # noqa: E402
from mlx.utils import tree_flatten  # noqa: E402

from scripts.checkpoints.building import build  # noqa: E402
from scripts.model_plan import PlanError, make_plan  # noqa: E402
from worker.engine.model.model import load_model  # noqa: E402
from worker.engine.options import EngineOptions  # noqa: E402
from worker.host.estimate import estimate_folder  # noqa: E402
from worker.settings import BUILT_IN_MODEL  # noqa: E402


def packed_to_4_bits(folder: Path) -> Path:
    """The same checkpoint as mlx-vlm's converter leaves it: layers packed, the rest as it was."""
    (file,) = folder.glob("*.safetensors")
    weights = {}
    loaded = mx.load(str(file))
    assert isinstance(loaded, dict)
    for name, value in loaded.items():
        layer, _, kind = name.rpartition(".")
        if kind != "weight" or "_proj" not in layer or "language" not in layer:
            weights[name] = value
            continue
        parts = zip(("weight", "scales", "biases"), mx.quantize(value, 64, 4), strict=True)
        weights |= {f"{layer}.{part}": packed for part, packed in parts}
    mx.save_safetensors(str(file), weights)
    config = folder / "config.json"
    told = json.loads(config.read_text()) | {"quantization": {"group_size": 64, "bits": 4}}
    config.write_text(json.dumps(told))
    return folder


def test_the_demo_model_takes_what_was_told() -> None:
    check(BUILT_IN_MODEL)


@pytest.mark.parametrize(
    ("family", "layers", "dtype"),
    [
        ("qwen2_vl", 2, "bfloat16"),
        ("qwen3_vl", 6, "float32"),
        ("llama", 2, "float16"),
        ("llava", 2, "float32"),
        ("pixtral", 4, "float32"),
    ],
)
def test_families_take_what_was_told(family: str, layers: int, dtype: str, tmp_path: Path) -> None:
    check(build(family, tmp_path / "model", width=128 * layers, layers=layers, dtype=dtype))


def test_a_packed_model_takes_what_was_told(tmp_path: Path) -> None:
    folder = build("qwen2_vl", tmp_path / "model", width=512, layers=4)
    whole = estimate_folder(folder, widened=True).weight_bytes
    check(packed_to_4_bits(folder))
    assert estimate_folder(folder, widened=True).weight_bytes < 0.6 * whole


def check(folder: Path) -> None:
    """Within a tenth, of weights and of a cached token."""
    found = estimate_folder(folder, widened=True)
    model = load_model(EngineOptions(model_path=str(folder)), lambda part: None)
    weights: list[tuple[str, mx.array]] = tree_flatten(model.network.parameters())
    taken = sum(value.nbytes for _, value in weights)
    assert found.weight_bytes == pytest.approx(taken, rel=0.1)
    assert found.bytes_per_token == pytest.approx(model.footprint.bytes_per_token, rel=0.1)


def test_a_plan_says_what_fits_and_what_does_not() -> None:
    plan = make_plan(str(BUILT_IN_MODEL), budget_gib=0.1)
    assert plan.fits
    assert plan.slots(2048) == (plan.budget_bytes - plan.found.weight_bytes) // (2048 * 6144)
    assert not make_plan(str(BUILT_IN_MODEL), budget_gib=0.02).fits
    assert not make_plan(str(BUILT_IN_MODEL), budget_gib=0.001).fits


def no_config(folder: Path) -> None:
    (folder / "config.json").unlink()


def no_weights(folder: Path) -> None:
    (folder / "model.safetensors").unlink()


def damaged(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(b"\xff" * 100)


@pytest.mark.parametrize("harm", [no_config, no_weights, damaged])
def test_a_damaged_folder_is_one_sentence(harm: Callable[[Path], None], tmp_path: Path) -> None:
    folder = build("llama", tmp_path / "model")
    harm(folder)
    with pytest.raises(PlanError) as told:
        make_plan(str(folder), budget_gib=1.0)
    assert "\n" not in str(told.value)

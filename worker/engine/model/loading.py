"""From a folder to a model in memory.

Whatever is wrong with the model itself becomes a `ModelError`: restarting the worker would not
heal it.
"""

from __future__ import annotations

import importlib.metadata
import logging
from pathlib import Path, PurePath
from typing import Any

import mlx.core as mx
import mlx.nn as nn
from mlx.utils import tree_flatten

from worker.engine.interface import ModelError
from worker.engine.model import own_code
from worker.engine.model.config import read_json
from worker.engine.model.device import has_gpu
from worker.engine.model.download import one_line

log = logging.getLogger(__name__)

INDEX = "model.safetensors.index.json"
TEXT_OPTIONS = frozenset({"padding", "padding_side", "add_special_tokens", "truncation"})


def load_weights(folder: Path, *, trust_remote_code: bool = False) -> tuple[nn.Module, Any]:
    """Return mlx-vlm's model and processor.

    Args:
        trust_remote_code: whether Python that lies in the folder may run.

    Raises:
        ModelError: mlx-vlm cannot load it (unknown architecture, missing or odd files), or only
            by running the folder's Python.
    """
    if not (folder / "config.json").is_file():
        raise ModelError(f"{folder} holds no config.json: it is not a model's folder.")
    _check_shards(folder)
    if trust_remote_code:
        model, processor = _load(folder, trust_remote_code=True)
    else:
        model, processor = _load_without_own_code(folder)
    if not has_gpu():
        _to_float32(model)
    mx.eval(model.parameters())
    _keep_text_options_from_images(processor)
    return model, processor


def _check_shards(folder: Path) -> None:
    """
    Raises:
        ModelError: the index of its weights names files that are not the model's.
    """
    try:
        placed = read_json(folder / INDEX).get("weight_map")
    except ModelError:
        return  # mlx-vlm takes what lies in the folder
    for name in set(map(str, placed.values())) if isinstance(placed, dict) else ():
        if PurePath(name).is_absolute() or ".." in PurePath(name).parts:
            raise ModelError(f"{INDEX} of {folder.name} names a file outside its folder: {name}")


def _load_without_own_code(folder: Path) -> tuple[nn.Module, Any]:
    own_code.check_model_file(folder)
    with own_code.forbidden(folder) as guard:
        try:
            model, processor = _load(folder, trust_remote_code=False)
        except ModelError as error:
            raise own_code.explained(error, folder, guard) from error
    own_code.check_tokenizer(folder, getattr(processor, "tokenizer", processor))
    if names := own_code.declared(folder):
        log.info("built-in classes serve %s; not run: %s", folder.name, ", ".join(names))
    return model, processor


def _load(folder: Path, *, trust_remote_code: bool) -> tuple[nn.Module, Any]:
    from mlx_vlm.utils import load

    try:
        return load(str(folder), trust_remote_code=trust_remote_code)  # type: ignore[no-any-return]
    except MemoryError:
        raise
    except Exception as error:
        # mlx-vlm raises whatever its models and processors trip over; none of it heals.
        log.debug("loading failed", exc_info=True)
        raise ModelError(f"mlx-vlm cannot load {folder.name}: {one_line(error)}") from error


def versions() -> dict[str, str]:
    return {name: importlib.metadata.version(name) for name in ("mlx", "mlx-vlm", "transformers")}


def _to_float32(model: nn.Module) -> None:
    """MLX's CPU kernels for half precision are slow: use float32 there."""
    half = (mx.float16, mx.bfloat16)
    weights = [
        (name, value.astype(mx.float32))
        for name, value in tree_flatten(model.parameters())
        if isinstance(value, mx.array) and value.dtype in half
    ]
    model.load_weights(weights, strict=False)


def _keep_text_options_from_images(processor: Any) -> None:
    """Some of mlx-vlm's processors (Llava) hand the tokenizer's options to the image processor
    too, which transformers 5 refuses. Drop those that it does not know."""
    image_processor = getattr(processor, "image_processor", None)
    accepted = getattr(getattr(image_processor, "valid_kwargs", None), "__annotations__", None)
    if image_processor is None or accepted is None:
        return
    strict = image_processor.preprocess

    def preprocess(images: Any, *args: Any, **options: Any) -> Any:
        known = {n: v for n, v in options.items() if n in accepted or n not in TEXT_OPTIONS}
        return strict(images, *args, **known)

    image_processor.preprocess = preprocess

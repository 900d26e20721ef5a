"""From a folder or a hub id to a model in memory.

Whatever is wrong with the model itself becomes a `ModelError`: restarting the worker would not
heal it. A download that breaks off is not the model's fault and becomes a `ModelUnavailable`.
"""

from __future__ import annotations

import importlib.metadata
import logging
from pathlib import Path, PurePath
from typing import Any

import mlx.core as mx
import mlx.nn as nn
from huggingface_hub import snapshot_download
from huggingface_hub.errors import (
    DryRunError,
    GatedRepoError,
    HFValidationError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from mlx.utils import tree_flatten
from tqdm.auto import tqdm

from worker.engine.interface import ModelError, ModelUnavailable, Report
from worker.engine.model import own_code
from worker.engine.model.config import read_json
from worker.engine.model.device import has_gpu

log = logging.getLogger(__name__)

DOWNLOADED = ("json", "jsonl", "safetensors", "model", "tiktoken", "txt", "jinja")
"""What mlx-vlm reads of a model; hubs hold the same weights in other forms beside it."""
INDEX = "model.safetensors.index.json"
TEXT_OPTIONS = frozenset({"padding", "padding_side", "add_special_tokens", "truncation"})


def resolve_folder(model_path: str, report: Report, *, trust_remote_code: bool = False) -> Path:
    """Return the model's folder, downloading it if `model_path` is a hub id.

    Args:
        trust_remote_code: whether the model's Python is fetched, too.

    Raises:
        ModelError: there is no such folder, no such model on the hub, or no hub to ask.
        ModelUnavailable: the download broke off; what has come stays for the next try.
    """
    folder = Path(model_path).expanduser()
    if folder.is_dir():
        return folder
    if folder.is_absolute() or model_path.startswith((".", "~")) or model_path.count("/") != 1:
        raise ModelError(f"No model at {model_path}: it is neither a folder nor a hub id.")
    patterns = [f"*.{kind}" for kind in (*DOWNLOADED, *(["py"] if trust_remote_code else []))]
    missing: int | None = 0
    try:
        missing = _bytes_to_download(model_path, patterns)
        bar = _reporting_bar(report, missing or 0)
        return Path(snapshot_download(model_path, allow_patterns=patterns, tqdm_class=bar))
    except GatedRepoError as error:
        raise ModelError(
            f"The model {model_path} wants its terms accepted on the hub, and a token (HF_TOKEN)."
        ) from error
    except (RepositoryNotFoundError, RevisionNotFoundError, HFValidationError) as error:
        raise ModelError(f"The hub has no model {model_path}, or it is private.") from error
    except Exception as error:
        if missing is None and isinstance(error, LocalEntryNotFoundError):
            raise ModelError(
                f"The model {model_path} is not on this machine, and the hub cannot be reached "
                f"({_one_line(error.__cause__ or error)}). Connect to the network, or give "
                "--model-path a folder."
            ) from error
        # Of the hub's library, its HTTP library or the file system, whose classes change.
        log.debug("downloading failed", exc_info=True)
        raise ModelUnavailable(
            f"The model {model_path} cannot be downloaded now: {_one_line(error)}"
        ) from error


def _bytes_to_download(model_path: str, patterns: list[str]) -> int | None:
    """0 when all is here, None when the hub cannot be asked."""
    try:
        files = snapshot_download(
            model_path,
            allow_patterns=patterns,
            dry_run=True,
            tqdm_class=_reporting_bar(lambda part: None, 0),
        )
    except DryRunError:
        return None
    return sum(file.file_size or 0 for file in files if file.will_download)


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
        raise ModelError(f"mlx-vlm cannot load {folder.name}: {_one_line(error)}") from error


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


def _reporting_bar(report: Report, total_bytes: int) -> type[Any]:
    """Return a class of bars that draw nothing and pass on how much of the bytes is here.

    The hub's library makes several bars, for bytes received and for bytes written, whose totals
    grow with each file it begins: the bar that is furthest is measured by the sum known before.
    """
    furthest = 0.0

    class ReportingBar(tqdm):  # type: ignore[misc]
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            kwargs.pop("name", None)
            kwargs["disable"] = False
            kwargs["file"] = _Nowhere()
            super().__init__(*args, **kwargs)

        def update(self, n: float | None = 1) -> Any:
            nonlocal furthest
            result = super().update(n)
            if self.unit == "B" and total_bytes and self.n > furthest:
                furthest = self.n
                report(min(1.0, furthest / total_bytes))
            return result

    return ReportingBar


class _Nowhere:
    def write(self, text: str) -> int:
        return len(text)

    def flush(self) -> None:
        pass


def _one_line(error: BaseException) -> str:
    words = " ".join(str(error).split()) or type(error).__name__
    return words if len(words) <= 300 else words[:297] + "..."

"""From a hub id to a folder of this machine.

What the hub does not have becomes a `ModelError`: trying again would not heal it. A download that
breaks off becomes a `ModelUnavailable`; files that have come whole are not fetched again. The hub's
library goes on within a file when its connection breaks, not after its process has been killed.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from huggingface_hub import constants, snapshot_download
from huggingface_hub.errors import (
    DryRunError,
    GatedRepoError,
    HFValidationError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from tqdm.auto import tqdm

from shared.model_path import expanded
from worker.engine.interface import ModelError, ModelUnavailable

log = logging.getLogger(__name__)

Progress = Callable[[int, int], None]
"""Takes how many bytes of all files are here, and how many there are."""

DOWNLOADED = ("json", "jsonl", "safetensors", "model", "tiktoken", "txt", "jinja")
"""What mlx-vlm reads of a model; hubs hold the same weights in other forms beside it."""
ORPHANED_AFTER_S = 3600.0
"""A file that nobody has written to for so long is nobody's download."""


def resolve_folder(model_path: str, progress: Progress, *, trust_remote_code: bool = False) -> Path:
    """Return the model's folder, downloading it if `model_path` is a hub id.

    Args:
        trust_remote_code: whether the model's Python is fetched, too.

    Raises:
        ModelError: there is no such folder, no such model on the hub, or no hub to ask.
        ModelUnavailable: the download broke off; files that have come stay for the next try.
    """
    folder = expanded(model_path)
    if folder.is_dir():
        return folder
    if folder.is_absolute() or model_path.startswith((".", "~")) or model_path.count("/") != 1:
        raise ModelError(f"No model at {model_path}: it is neither a folder nor a hub id.")
    patterns = [f"*.{kind}" for kind in (*DOWNLOADED, *(["py"] if trust_remote_code else []))]
    sizes: tuple[int, int] | None = (0, 0)
    try:
        _remove_orphans(model_path)
        sizes = _sizes(model_path, patterns)
        bar = _reporting_bar(progress, *(sizes or (0, 0)))
        return Path(snapshot_download(model_path, allow_patterns=patterns, tqdm_class=bar))
    except GatedRepoError as error:
        raise ModelError(
            f"The model {model_path} wants its terms accepted on the hub, and a token (HF_TOKEN)."
        ) from error
    except (RepositoryNotFoundError, RevisionNotFoundError, HFValidationError) as error:
        raise ModelError(f"The hub has no model {model_path}, or it is private.") from error
    except Exception as error:
        if sizes is None and isinstance(error, LocalEntryNotFoundError):
            raise ModelError(
                f"The model {model_path} is not on this machine, and the hub cannot be reached "
                f"({one_line(error.__cause__ or error)}). Connect to the network, or give "
                "--model-path a folder."
            ) from error
        # Of the hub's library, its HTTP library or the file system, whose classes change.
        log.debug("downloading failed", exc_info=True)
        raise ModelUnavailable(
            f"The model {model_path} cannot be downloaded now: {one_line(error)}"
        ) from error


def _remove_orphans(model_path: str) -> None:
    """Files that a killed download has left half: the library never goes on with one."""
    folder = Path(constants.HF_HUB_CACHE) / f"models--{model_path.replace('/', '--')}" / "blobs"
    for file in folder.glob("*.incomplete"):
        if time.time() - file.stat().st_mtime > ORPHANED_AFTER_S:
            file.unlink(missing_ok=True)


def _sizes(model_path: str, patterns: list[str]) -> tuple[int, int] | None:
    """How many bytes of all files are here, and how many there are; None when the hub cannot be
    asked."""
    try:
        files = snapshot_download(
            model_path,
            allow_patterns=patterns,
            dry_run=True,
            tqdm_class=_reporting_bar(lambda done, total: None, 0, 0),
        )
    except DryRunError:
        return None
    here = sum(file.file_size or 0 for file in files if not file.will_download)
    return here, here + sum(file.file_size or 0 for file in files if file.will_download)


def _reporting_bar(progress: Progress, here: int, total: int) -> type[Any]:
    """Return a class of bars that draw nothing and pass on how many of the bytes are here.

    The hub's library makes several bars, for bytes received and for bytes written, whose totals
    grow with each file it begins: the bar that is furthest is measured by the sum known before.

    Args:
        here: bytes that were here before.
        total: of all files.
    """
    furthest = 0

    class ReportingBar(tqdm):  # type: ignore[misc]
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            kwargs.pop("name", None)
            kwargs["disable"] = False
            kwargs["file"] = _Nowhere()
            super().__init__(*args, **kwargs)

        def update(self, n: float | None = 1) -> Any:
            nonlocal furthest
            result = super().update(n)
            if self.unit == "B" and total and self.n > furthest:
                furthest = self.n
                progress(min(total, here + furthest), total)
            return result

    return ReportingBar


class _Nowhere:
    def write(self, text: str) -> int:
        return len(text)

    def flush(self) -> None:
        pass


def one_line(error: BaseException) -> str:
    words = " ".join(str(error).split()) or type(error).__name__
    return words if len(words) <= 300 else words[:297] + "..."

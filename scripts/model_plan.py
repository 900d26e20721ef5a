"""What a model would take of this machine's memory, told from headers alone: `models plan`.

Weights and cached tokens are those of `worker.host.estimate`; what a step takes besides is not
known before the model runs, and is what the last quarter of the memory is for.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from huggingface_hub import HfApi, hf_hub_download
from huggingface_hub.errors import NotASafetensorsRepoError, RepositoryNotFoundError

from shared.model_path import FOLDER_SIGNS, HUB_ID, expanded
from worker.engine.interface import ModelError
from worker.engine.model.config import read_json
from worker.host.budget import default_budget_bytes
from worker.host.estimate import Estimate, estimate
from worker.host.safetensors_header import HeaderError, Tensor, read_tensors

ROW_TOKENS = (2_048, 8_192, 32_768, 131_072)
GIB, KIB = 2**30, 2**10


class PlanError(ValueError):
    """Nothing can be told of this model; the message is one sentence."""


@dataclass(frozen=True)
class Plan:
    """
    Attributes:
        budget_bytes: for weights and caches together.
    """

    model: str
    found: Estimate
    budget_bytes: int

    @property
    def cache_bytes(self) -> int:
        """What the weights leave for cached tokens; negative: they do not fit."""
        return self.budget_bytes - self.found.weight_bytes

    @property
    def fits(self) -> bool:
        """Whether there is room for one row of the shortest length, too."""
        return self.slots(ROW_TOKENS[0]) > 0

    def slots(self, tokens: int) -> int:
        """How many rows of so many tokens fit at once."""
        return max(0, self.cache_bytes) // max(1, self.found.row_bytes(tokens))

    def lines(self) -> list[str]:
        lines = [
            f"model            {self.model}",
            f"weights          {self.found.weight_bytes / GIB:.2f} GiB",
            f"a cached token   {self.found.bytes_per_token / KIB:.1f} KiB",
            f"memory           {self.budget_bytes / GIB:.2f} GiB for weights and caches",
        ]
        if not self.fits:
            return [*lines, "It does not fit."]
        most = self.found.context_tokens or ROW_TOKENS[-1]
        lengths = sorted({*(tokens for tokens in ROW_TOKENS if tokens < most), most})
        rows = [f"{self.slots(tokens):>8,} x {tokens:,} tokens" for tokens in lengths]
        return [*lines, "slots that fit", *rows]


def make_plan(model: str, budget_gib: float | None) -> Plan:
    """
    Args:
        model: a folder or a hub id; of a hub id that is not here, headers alone are fetched.
        budget_gib: instead of this machine's own.

    Raises:
        PlanError: it is neither, or it is damaged.
    """
    from worker.engine.model.device import has_gpu, memory_bytes  # bring MLX, which takes a moment

    config, tensors = _local(expanded(model)) or _of_the_hub(model)
    own_bytes = default_budget_bytes(memory_bytes())
    budget_bytes = own_bytes if budget_gib is None else int(budget_gib * GIB)
    return Plan(model, estimate(config, tensors, widened=not has_gpu()), budget_bytes)


def _local(folder: Path) -> tuple[dict[str, Any], dict[str, Tensor]] | None:
    if not folder.is_dir():
        return None
    if not (folder / "config.json").is_file():
        raise PlanError(f"{folder} holds no config.json: it is not a model's folder.")
    try:
        return read_json(folder / "config.json"), read_tensors(folder)
    except (ModelError, HeaderError) as error:
        raise PlanError(str(error)) from error


def _of_the_hub(model: str) -> tuple[dict[str, Any], dict[str, Tensor]]:
    if model.startswith(FOLDER_SIGNS):
        raise PlanError(f"There is no folder {model}.")
    if not HUB_ID.fullmatch(model):
        raise PlanError(f"There is no model at {model}: it is neither a folder nor a hub id.")
    try:
        config = Path(hf_hub_download(model, "config.json"))
        if here := _local(config.parent) if any(config.parent.glob("*.safetensors")) else None:
            return here
        headers = HfApi().get_safetensors_metadata(model)
    except NotASafetensorsRepoError as error:
        raise PlanError(f"The hub's model {model} has no safetensors.") from error
    except RepositoryNotFoundError as error:
        raise PlanError(f"The hub has no model {model}, or it is private.") from error
    except PlanError:
        raise
    except Exception as error:
        # Of the hub's library or its HTTP library, whose classes change.
        why = next(iter(str(error).splitlines()), type(error).__name__)
        raise PlanError(f"The hub does not give {model}: {why}") from error
    return read_json(config), {
        name: Tensor(told.dtype, tuple(told.shape))
        for file in headers.files_metadata.values()
        for name, told in file.tensors.items()
    }

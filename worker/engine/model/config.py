"""What a model's files say about it, wherever its family has put it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from worker.engine.interface import ModelError

if TYPE_CHECKING:
    import mlx.nn as nn

CONTEXT_NAMES = ("max_position_embeddings", "max_sequence_length", "seq_length", "n_positions")


@dataclass(frozen=True)
class SamplingDefaults:
    """What a request means when it leaves a sampling parameter, or the most tokens, out."""

    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    max_new_tokens: int | None = None


RANGES = {
    "temperature": (0.0, 1e6),
    "top_p": (0.0, 1.0),
    "top_k": (-1.0, 2.0**31),
    "min_p": (0.0, 1.0),
    "repetition_penalty": (1e-6, 1e6),
    "max_new_tokens": (1.0, 2.0**31),
}
"""What a number of `generation_config.json` can be."""


def read_json(path: Path) -> dict[str, Any]:
    """Return the object in the file; empty when there is no such file.

    Raises:
        ModelError: it is not a JSON object.
    """
    if not path.is_file():
        return {}
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ModelError(f"{path.name} of the model is not JSON: {error}") from error
    if not isinstance(content, dict):
        raise ModelError(f"{path.name} of the model is not a JSON object.")
    return content


def sampling_defaults(generation: Mapping[str, Any]) -> SamplingDefaults:
    """Read `generation_config.json`; OpenAI's defaults where it is silent.

    Raises:
        ModelError: it says what cannot be.
    """
    given = {name: generation[name] for name in RANGES if generation.get(name) is not None}
    for name, value in given.items():
        least, most = RANGES[name]
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if not is_number or not least <= value <= most:
            raise ModelError(f"generation_config.json of the model has {name}: {value!r}.")
    for name in given.keys() & {"top_k", "max_new_tokens"}:
        given[name] = int(given[name])
    if generation.get("do_sample") is False:
        given |= {"temperature": 0.0}
    return SamplingDefaults(**given)


def eos_ids(network: nn.Module, processor: Any, tokenizer: Any) -> frozenset[int]:
    found: set[int] = set()
    criteria = getattr(tokenizer, "stopping_criteria", None)
    for ids in (
        getattr(criteria, "eos_token_ids", None),
        getattr(network.config, "eos_token_id", None),
        getattr(tokenizer, "eos_token_id", None),
        getattr(processor, "additional_eos_token_ids", None),
    ):
        if isinstance(ids, int):
            found.add(ids)
        elif ids is not None:
            found.update(int(token) for token in ids)
    return frozenset(found)


def ids_of(tokenizer: Any, tokens: Sequence[str]) -> frozenset[int]:
    vocabulary = tokenizer.get_vocab()
    return frozenset(vocabulary[token] for token in tokens if token in vocabulary)


def image_token_ids(network: nn.Module) -> frozenset[int]:
    names = ("image_token_id", "image_token_index", "video_token_id", "video_token_index")
    ids = (getattr(network.config, name, None) for name in names)
    return frozenset(token for token in ids if isinstance(token, int))


def context_tokens(config: Mapping[str, Any], wanted: int | None) -> int | None:
    for part in (config.get("text_config"), config.get("llm_config"), config):
        for name in CONTEXT_NAMES:
            limit = part.get(name) if isinstance(part, Mapping) else None
            if isinstance(limit, int) and limit > 0:
                return min(limit, wanted) if wanted else limit
    return wanted

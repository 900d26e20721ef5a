"""From a folder to a model that can draft for another, or to a sentence about why it cannot."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import Any

from shared.model_path import expanded
from worker.engine.draft_model.draft_model import DraftModel
from worker.engine.interface import ModelError
from worker.engine.model.config import read_json
from worker.engine.model.model import LoadedModel, load_model
from worker.engine.options import EngineOptions

log = logging.getLogger(__name__)

MOST_UNLIKE = 128
"""Tokens that two tokenizers of one family may have apart: special ones, added to one of them."""


def load_draft_model(options: EngineOptions, served: LoadedModel) -> DraftModel:
    """Load the model in the folder that `options.speculate` names.

    Raises:
        ModelError: it cannot draft for the served model.
    """
    folder = expanded(options.speculate)
    try:
        _check_kind(read_json(folder / "config.json"))
        alone = replace(options, model_path=str(folder), max_context=None, vision_cache_bytes=0)
        model = load_model(alone, lambda part: None)
        _check_words(model, served)
        if not model.has_plain_caches:
            raise ModelError("its caches cannot take tokens back")
    except ModelError as error:
        raise ModelError(f"--speculate: {folder} cannot draft for this model: {error}") from error
    log.info("drafts come from %s", folder.name)
    return DraftModel(model, served.vocabulary, served.family.placeholders)


def _check_kind(config: dict[str, Any]) -> None:
    """mlx-vlm's own kinds are no models by themselves: they go on from what the served one thinks,
    which it does not tell here."""
    from mlx_vlm.speculative.drafters import DRAFTER_KIND_BY_MODEL_TYPE

    name = str(config.get("model_type") or config.get("speculators_model_type") or "it")
    described = f"{name} {config.get('architectures')}".lower()
    hinted = next((kind for kind in ("mtp", "dflash") if kind in described), None)
    kind = DRAFTER_KIND_BY_MODEL_TYPE.get(name, hinted)
    if kind is not None:
        raise ModelError(
            f"{name} is of mlx-vlm's kind {kind}, which reads another model's inner states; what "
            "drafts here is a whole model, smaller than the served one and with its tokenizer"
        )


def _check_words(model: LoadedModel, served: LoadedModel) -> None:
    """Ids that both have must stand for the same words."""
    words = {index: token for token, index in served.tokenizer.get_vocab().items()}
    own = {index: token for token, index in model.tokenizer.get_vocab().items()}
    unlike = sum(own.get(index) != token for index, token in words.items())
    if unlike > min(MOST_UNLIKE, len(words) // 8):
        raise ModelError(f"of {len(words)} tokens {unlike} are others than in its vocabulary")

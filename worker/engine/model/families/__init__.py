"""Quirks of families: what cannot be read off a model that mlx-vlm has loaded.

A quirk is a file of its own, listed here. It names the model types that have it (`MODEL_TYPES`, as
their `config.json` calls them) and says how their record differs from what was read off
(`adjusted`). Beginning with why, it tells what mlx-vlm does there.
"""

from __future__ import annotations

from typing import Any, Protocol

import mlx.nn as nn
from mlx_vlm.utils import MODEL_REMAPPING

from worker.engine.model.families import (
    answers_embedded_apart,
    chunked_attention,
    first_picture_only,
    mask_by_offset,
    mask_per_group,
    positions_in_state,
    rows_apart,
    sizes_read_past_their_end,
    split_by_grid,
    split_by_row,
)
from worker.engine.model.family import Family, derived
from worker.engine.model.not_served import check_served


class Quirk(Protocol):
    """What a quirk's file holds."""

    MODEL_TYPES: frozenset[str]

    def adjusted(self, family: Family, network: nn.Module) -> Family:
        """The record as this quirk has it; may look at, and mend, the network."""


QUIRKS: tuple[Quirk, ...] = (
    positions_in_state,
    split_by_grid,
    split_by_row,
    first_picture_only,
    mask_by_offset,
    mask_per_group,
    rows_apart,
    chunked_attention,
    answers_embedded_apart,
    sizes_read_past_their_end,
)


def family_of(network: nn.Module, processor: Any) -> Family:
    """The record of a model that mlx-vlm has loaded.

    Raises:
        ModelError: it is of a kind that is not served.
    """
    check_served(network)
    family = derived(network, processor)
    for quirk in quirks_of(family.model_type):
        family = quirk.adjusted(family, network)
    return family


def quirks_of(model_type: str) -> list[Quirk]:
    """Those of this type, by whichever of its names a `config.json` calls it."""
    names = {model_type, MODEL_REMAPPING.get(model_type, model_type)}
    return [quirk for quirk in QUIRKS if names & quirk.MODEL_TYPES]

"""The record of a family: what is read off, what is stated, and what is kept out of a model."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import mlx.core as mx
import mlx.nn as nn
import pytest
from mlx_vlm.models.cache import KVCache

from scripts.checkpoints.families import FAMILIES, SEEING
from worker.engine.model.families import QUIRKS, family_of, first_picture_only, quirks_of
from worker.engine.model.family import Abilities, Split
from worker.engine.model.loading import load_weights
from worker.engine.model.positions import PositionState

GRID = {"qwen2_vl", "qwen2_5_vl", "qwen3_vl"}


@pytest.mark.parametrize("name", FAMILIES)
def test_what_a_model_is_is_read_off_it(name: str, checkpoint: Callable[[str], Path]) -> None:
    family = family_of(*load_weights(checkpoint(name)))
    assert family.abilities.pictures == (name in SEEING)
    assert bool(family.placeholders) == (name in SEEING)
    assert (family.tower is not None) == (name in SEEING)
    assert family.rope_deltas == (name in GRID)
    assert family.abilities.batching
    if name in SEEING:
        assert family.split is (Split.BY_GRID if name in GRID else Split.BY_ROW)


def test_no_model_type_has_a_quirk_twice() -> None:
    assert all(quirk.MODEL_TYPES and quirk.__doc__ for quirk in QUIRKS)
    by_grid, by_row = QUIRKS[1].MODEL_TYPES, QUIRKS[2].MODEL_TYPES
    assert not by_grid & by_row


def test_abilities_are_switched_off_by_name() -> None:
    fewer = Abilities().without("pieces", "batching")
    assert not fewer.pieces and not fewer.batching and fewer.prefix_cache
    with pytest.raises(TypeError):
        Abilities().without("magic")


class Language(nn.Module):  # type: ignore[misc]
    def __init__(self) -> None:
        super().__init__()
        self._position_ids: mx.array | None = None
        self._rope_deltas: mx.array | None = None


def test_positions_left_in_a_model_are_its_prompts_alone() -> None:
    language = Language()
    state = PositionState(language, 3)
    language._position_ids = mx.full((3, 1, 4), 7)  # noqa: SLF001 - as mlx-vlm's models do
    language._rope_deltas = mx.array([[-2]])  # noqa: SLF001
    pictured = state.take(4)
    text = state.take(2)
    assert mx.array_equal(pictured["position_ids"], mx.full((3, 1, 4), 7))
    assert pictured["rope_deltas"].item() == -2
    assert mx.array_equal(text["position_ids"], mx.broadcast_to(mx.arange(2), (3, 1, 2)))
    assert text["rope_deltas"].item() == 0


def test_positions_go_on_after_each_rows_own_tokens() -> None:
    state = PositionState(Language(), 3)
    row = KVCache()
    row.update_and_fetch(mx.zeros((1, 1, 5, 2)), mx.zeros((1, 1, 5, 2)))
    alone = state.after([row], mx.array([[1, 2]]), mx.array([[-3]]))
    assert alone.tolist() == [[[2, 3]]] * 3
    longer = KVCache()
    longer.update_and_fetch(mx.zeros((1, 1, 9, 2)), mx.zeros((1, 1, 9, 2)))
    batch = KVCache.merge([row, longer])
    side_by_side = state.after([batch], mx.array([[1], [2]]), mx.array([[-3], [1]]))
    assert side_by_side.tolist() == [[[2], [10]]] * 3


@pytest.mark.parametrize(
    ("name", "other"),
    [("granite-vision", "granite_vision"), ("granite4-vision", "granite4_vision")],
)
def test_a_quirk_is_its_familys_by_whichever_name_it_goes(name: str, other: str) -> None:
    assert quirks_of(name) == quirks_of(other) == [first_picture_only]
    assert not quirks_of("llama") and not quirks_of("mistral")

"""Faults with pictures cost a model what it does with pictures."""

from __future__ import annotations

from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from mlx.utils import tree_map

from tests.worker.engine.conftest import MakeDriver
from tests.worker.engine.driving import Driver
from tests.worker.engine.proof.spoiling import (
    Call,
    Patch,
    around_the_language_model,
    before_the_language_model,
    off,
    offset_of,
    proof_of,
    skewed,
)
from worker.engine.cache.vision import VisionCache

pytestmark = pytest.mark.usefixtures("short_prompts_alone")


def test_pictures_that_do_not_go_on(drive: MakeDriver, monkeypatch: Patch) -> None:
    """granite4_vision cuts a picture's deep features by what its cache holds already. Questions
    begin with too few tokens in common to find a prefix before their picture: users' do not."""
    driver = drive()
    placeholders = driver.model.family.placeholders

    def spoil(tokens: mx.array, cache: Any) -> None:
        if (
            tokens.shape[1] > 1
            and offset_of(cache[0])
            and placeholders.intersection(np.array(tokens).ravel())
        ):
            raise ValueError("a picture after the start")

    before_the_language_model(driver, monkeypatch, spoil)
    assert off(proof_of(driver)) == {"prefix_cache", "pieces"}


def test_the_picture_before_under_the_same_text(drive: MakeDriver, monkeypatch: Patch) -> None:
    """molmo: a key without its pictures finds what another picture has left."""
    driver = drive()
    monkeypatch.setattr(
        "worker.engine.prepare.preprocess.cache_key",
        lambda ids, places, keys, apart: np.array(ids),
    )
    assert off(proof_of(driver)) == {"prefix_cache"}


def test_pictures_that_are_taken_for_one_another(drive: MakeDriver, monkeypatch: Patch) -> None:
    driver = drive()
    monkeypatch.setattr(
        "worker.engine.prepare.preprocess.image_keys", lambda job, images: ("one",) * len(images)
    )
    assert off(proof_of(driver)) == {"vision_cache", "prefix_cache"}


def test_features_that_come_back_as_others(drive: MakeDriver, monkeypatch: Patch) -> None:
    """Also where a picture whose prompt is remembered needs none."""
    driver = drive("idefics3")
    get = VisionCache.get

    def spoiled(self: VisionCache, key: tuple[object, ...]) -> Any:
        found = get(self, key)
        return None if found is None else tree_map(lambda leaf: 3 * leaf, found)

    monkeypatch.setattr(VisionCache, "get", spoiled)
    assert off(proof_of(driver)) == {"vision_cache"}


def around_the_embeddings(driver: Driver, patch: Patch, change: Call) -> None:
    """`change(embeddings, with_pixels)` is what the network embeds a prompt as."""
    kind = type(driver.model.network)
    call = kind.get_input_embeddings

    def changed(self: Any, ids: Any = None, pixel_values: Any = None, **given: Any) -> Any:
        found = call(self, ids, pixel_values, **given)
        found.inputs_embeds = change(found.inputs_embeds, pixel_values is not None)
        return found

    patch.setattr(kind, "get_input_embeddings", changed)


def test_pictures_that_are_not_looked_at(drive: MakeDriver, monkeypatch: Patch) -> None:
    driver = drive()
    around_the_embeddings(
        driver, monkeypatch, lambda embeds, seen: mx.zeros_like(embeds) if seen else embeds
    )
    proof = proof_of(driver)
    assert off(proof) == {"pictures", "several_pictures"}
    assert "do not depend on the picture" in proof.reasons["pictures"]


def test_pictures_of_which_mlx_vlm_says_now_this_now_that(
    drive: MakeDriver, monkeypatch: Patch
) -> None:
    """deepseek_vl_v2, llama4: read past an end, or from memory that nobody has written."""
    driver = drive()
    around_the_embeddings(
        driver,
        monkeypatch,
        lambda embeds, seen: embeds + mx.random.normal(embeds.shape) if seen else embeds,
    )
    proof = proof_of(driver)
    assert off(proof) == {"pictures", "several_pictures"}
    assert "one thing and then another" in proof.reasons["pictures"]


def refusing_pictures(embeds: mx.array, seen: bool) -> mx.array:
    if seen:
        raise ValueError("odd pixels")
    return embeds


def test_pictures_that_mlx_vlm_cannot_take(drive: MakeDriver, monkeypatch: Patch) -> None:
    driver = drive()
    around_the_embeddings(driver, monkeypatch, refusing_pictures)
    proof = proof_of(driver)
    assert off(proof) == {"pictures", "several_pictures"}
    assert "odd pixels" in proof.reasons["pictures"]


def test_pictures_that_mlx_vlm_cannot_take_leave_texts_as_they_are(
    drive: MakeDriver, monkeypatch: Patch
) -> None:
    """gemma3n: what it says depends on whether a prompt's last token comes with the others."""
    driver = drive()
    around_the_embeddings(driver, monkeypatch, refusing_pictures)
    around_the_language_model(
        driver,
        monkeypatch,
        lambda tokens, logits: skewed(logits) if tokens.shape[1] > 1 else logits,
    )
    assert off(proof_of(driver)) == {"pictures", "several_pictures", "speculation"}


def test_pictures_of_which_the_tower_looks_at_all(drive: MakeDriver, monkeypatch: Patch) -> None:
    """A tower whose features of a picture depend on the others of its prompt."""
    driver = drive()
    kind = type(driver.model.network.vision_tower)
    call = kind.__call__

    def together(self: Any, pixels: mx.array, *args: Any, **given: Any) -> Any:
        return call(self, pixels, *args, **given) + 10 * pixels.mean()

    monkeypatch.setattr(kind, "__call__", together)
    assert off(proof_of(driver)) == {"picture_splitting"}


def test_more_pictures_than_mlx_vlm_takes(drive: MakeDriver, monkeypatch: Patch) -> None:
    driver = drive()
    call = driver.model.network.language_model.get_rope_index

    def one_only(ids: Any, grid: Any = None, *args: Any, **given: Any) -> Any:
        if grid is not None and grid.shape[0] > 1:
            raise ValueError("one picture only")
        return call(ids, grid, *args, **given)

    monkeypatch.setattr(driver.model.network.language_model, "get_rope_index", one_only)
    proof = proof_of(driver)
    assert off(proof) == {"several_pictures"}
    assert "one picture only" in proof.reasons["several_pictures"]

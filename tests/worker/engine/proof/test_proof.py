"""A fault of each kind, put into a model that has none, costs it just what is wrong with it."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from mlx.utils import tree_map

from tests.worker.engine.conftest import MakeDriver
from tests.worker.engine.driving import Driver, job, picture
from worker.engine.cache.slots import SlotCache, SlotLayer
from worker.engine.cache.vision import VisionCache
from worker.engine.interface import ModelError
from worker.engine.load import go_by
from worker.engine.model.family import Abilities
from worker.engine.options import EngineOptions
from worker.engine.proof.lengths import lengths_of
from worker.engine.proof.proof import Proof, prove

Patch = pytest.MonkeyPatch
Call = Callable[..., Any]

TEXT_ONLY = {"text", "prefix_cache", "pieces", "batching", "speculation"}
SEEING = {*Abilities().as_dict(), "text"}


@pytest.fixture(autouse=True)
def short_prompts_alone(monkeypatch: Patch) -> None:
    """Most faults are seen in them; `long_prompts_too` for the others."""
    monkeypatch.setattr("worker.engine.proof.proof.BEYOND_S", 0.0)


@pytest.fixture
def long_prompts_too(short_prompts_alone: None, monkeypatch: Patch) -> None:
    monkeypatch.setattr("worker.engine.proof.proof.BEYOND_S", math.inf)


def proof_of(driver: Driver) -> Proof:
    return prove(driver.engine, EngineOptions(model_path=""))


def off(proof: Proof) -> set[str]:
    assert set(proof.reasons) == {name for name, held in proof.proven.items() if not held}
    assert all(
        proof.abilities.as_dict().get(name, True) == held for name, held in proof.proven.items()
    )
    return set(proof.reasons)


def around_the_language_model(driver: Driver, patch: Patch, change: Call) -> None:
    """`change(tokens, logits)` is what a call of the network's language model returns, whoever
    calls it."""
    kind = type(driver.model.network.language_model)
    call = kind.__call__

    def changed(self: Any, tokens: mx.array, *args: Any, **given: Any) -> Any:
        output = call(self, tokens, *args, **given)
        output.logits = change(tokens, output.logits)
        return output

    patch.setattr(kind, "__call__", changed)


def before_the_language_model(driver: Driver, patch: Patch, spoil: Call) -> None:
    """`spoil(tokens, cache)` comes before each call."""
    kind = type(driver.model.network.language_model)
    call = kind.__call__

    def spoiled(self: Any, tokens: mx.array, *args: Any, **given: Any) -> Any:
        spoil(tokens, given["cache"])
        return call(self, tokens, *args, **given)

    patch.setattr(kind, "__call__", spoiled)


def skewed(logits: mx.array) -> mx.array:
    """Other answers: each token's logit is its neighbour's."""
    return mx.take(logits, (mx.arange(logits.shape[-1]) + 1) % logits.shape[-1], axis=-1)


@pytest.mark.usefixtures("long_prompts_too")
@pytest.mark.parametrize("family", ["llama", "gpt_oss"])
def test_a_text_model_without_fault_keeps_everything(family: str, drive: MakeDriver) -> None:
    driver = drive(family)
    proof = proof_of(driver)
    assert set(proof.proven) == TEXT_ONLY
    assert off(proof) == (set() if driver.model.has_plain_caches else {"speculation"})
    assert not proof.abilities.pictures and not proof.untried


@pytest.mark.parametrize("family", ["qwen2_vl", "gemma3", "idefics3"])
def test_a_seeing_model_without_fault_keeps_everything(family: str, drive: MakeDriver) -> None:
    driver = drive(family)
    proof = proof_of(driver)
    assert set(proof.proven) == SEEING
    assert off(proof) == (set() if driver.model.has_plain_caches else {"speculation"})


# --- rows ----------------------------------------------------------------------------------------


def test_rows_as_many_as_heads_with_another_mask(drive: MakeDriver, monkeypatch: Patch) -> None:
    """gemma2: a mask of [rows, 1, 1, n] fits scores of [rows, heads, groups, 1, n] by accident."""
    driver = drive("llama")
    heads = driver.model.kv_heads
    assert heads > 1

    def change(tokens: mx.array, logits: mx.array) -> mx.array:
        return skewed(logits) if tokens.shape[0] == heads else logits

    around_the_language_model(driver, monkeypatch, change)
    proof = proof_of(driver)
    assert off(proof) == {"batching", "speculation"}
    assert f"with {heads} rows" in proof.reasons["batching"]


def test_rows_that_raise(drive: MakeDriver, monkeypatch: Patch) -> None:
    """internlm2: a batch's offsets are compared with a number."""

    def change(tokens: mx.array, logits: mx.array) -> mx.array:
        if tokens.shape[0] > 1:
            raise ValueError("more than one row")
        return logits

    driver = drive("llama")
    around_the_language_model(driver, monkeypatch, change)
    assert off(proof_of(driver)) == {"batching", "speculation"}


def test_rows_that_would_end_the_engine(drive: MakeDriver, monkeypatch: Patch) -> None:
    """mllama: what raised there was outside of any job's guard."""
    driver = drive("llama")
    step = driver.engine.step

    def fragile() -> Any:
        if driver.engine.gauges()["rows"] > 1:
            raise AttributeError("keys are None")
        return step()

    monkeypatch.setattr(driver.engine, "step", fragile)
    proof = proof_of(driver)
    assert off(proof) == {"batching", "speculation"}
    assert proof.reasons["batching"] == "keys are None"


# --- pieces and prefixes -------------------------------------------------------------------------


def test_prompts_that_go_on_wrongly(drive: MakeDriver, monkeypatch: Patch) -> None:
    """A model that forgets where it was when more than a token comes at once."""

    def start_anew(tokens: mx.array, cache: Any) -> None:
        if tokens.shape[1] > 1 and isinstance(cache[0].offset, int) and cache[0].offset:
            for layer in cache:
                layer.offset = 0

    driver = drive("llama")
    before_the_language_model(driver, monkeypatch, start_anew)
    assert off(proof_of(driver)) == {"prefix_cache", "pieces", "speculation"}


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


# --- beyond what a model declares ----------------------------------------------------------------

FAR = 400
"""More tokens than questions have that go beyond a block of the caches."""


def offset_of(layer: Any) -> float:
    return float(np.max(np.array(layer.offset)))


@pytest.mark.usefixtures("long_prompts_too")
@pytest.mark.parametrize(
    ("lost", "when"),
    [
        ({"batching", "speculation"}, lambda tokens, far: far and tokens.shape[0] > 1),
        (
            {"prefix_cache", "pieces", "speculation"},
            lambda tokens, far: far and tokens.shape[1] > 1,
        ),
    ],
)
def test_a_window_that_only_long_prompts_go_beyond(
    lost: set[str], when: Call, drive: MakeDriver, monkeypatch: Patch
) -> None:
    def spoil(tokens: mx.array, cache: Any) -> None:
        if when(tokens, offset_of(cache[0]) > FAR):
            raise ValueError("beyond the window")

    driver = drive("llama")
    before_the_language_model(driver, monkeypatch, spoil)
    assert off(proof_of(driver)) == set()
    monkeypatch.setattr(driver.model.network.config, "sliding_window", FAR, raising=False)
    assert off(proof_of(driver)) == lost


@pytest.mark.usefixtures("long_prompts_too")
def test_a_cache_cut_back_to_where_it_has_dropped_something(
    drive: MakeDriver, monkeypatch: Patch
) -> None:
    """llama4: chunks that are over leave its caches, which say that they can be cut back."""
    driver = drive("llama4")
    assert not driver.model.family.abilities.prefix_cache
    monkeypatch.setattr(driver.model, "family", replace(driver.model.family, abilities=Abilities()))
    proof = proof_of(driver)
    assert "prefix_cache" in off(proof)
    assert "tokens that part from those beyond 64" in proof.reasons["prefix_cache"]


def test_what_would_take_too_long_is_said(
    drive: MakeDriver, caplog: pytest.LogCaptureFixture
) -> None:
    driver = drive("gpt_oss")
    proof = proof_of(driver)
    assert proof.untried == 64
    with caplog.at_level("INFO"):
        go_by(driver.engine, EngineOptions(model_path=""), proof)
    assert "not tried beyond 64 tokens" in caplog.text


def test_what_models_declare(drive: MakeDriver) -> None:
    assert lengths_of(drive("llama").model) == [256]
    assert lengths_of(drive("gpt_oss").model) == [64, 256]


def test_more_keys_than_sparse_attention_looks_at_are_beyond_a_length(
    drive: MakeDriver, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = drive("deepseek_v32").model
    monkeypatch.setattr(model.network.config, "index_topk", 100)
    assert lengths_of(model) == [100, 256]


# --- the same start, the same verdict ------------------------------------------------------------


@pytest.mark.usefixtures("long_prompts_too")
def test_what_is_computed_together_does_not_depend_on_time(
    drive: MakeDriver, monkeypatch: Patch
) -> None:
    """moondream3: rows that are padded are not numbers, so that it mattered who met whom."""
    driver = drive("llama")
    shapes: list[list[tuple[int, ...]]] = []
    clock = time.perf_counter
    for speed in (1.0, 100.0):
        shapes.append([])
        monkeypatch.setattr(time, "perf_counter", lambda speed=speed: clock() * speed)
        with monkeypatch.context() as patch:
            before_the_language_model(
                driver, patch, lambda tokens, cache: shapes[-1].append(tokens.shape)
            )
            proof_of(driver)
    assert shapes[0] == shapes[1] and any(min(shape) > 1 for shape in shapes[0])


# --- drafts --------------------------------------------------------------------------------------


def test_tokens_fed_together_that_are_taken_for_a_prompt(
    drive: MakeDriver, monkeypatch: Patch
) -> None:
    driver = drive("llama")
    call = type(driver.model.network.language_model).__call__

    def wrong(self: Any, tokens: mx.array, *args: Any, **given: Any) -> Any:
        output = call(self, tokens, *args, **given)
        if tokens.shape[1] > 1 and isinstance(given["cache"][0], SlotLayer):
            output.logits = skewed(output.logits)
        return output

    monkeypatch.setattr(type(driver.model.network.language_model), "__call__", wrong)
    proof = proof_of(driver)
    assert off(proof) == {"speculation"}
    assert "with drafts" in proof.reasons["speculation"]


def test_tokens_that_cannot_be_taken_back(drive: MakeDriver, monkeypatch: Patch) -> None:
    driver = drive("llama")
    monkeypatch.setattr(SlotCache, "trim", lambda self, number, tokens: None)
    assert off(proof_of(driver)) == {"speculation"}


# --- pictures ------------------------------------------------------------------------------------


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


def test_pictures_that_mlx_vlm_cannot_take(drive: MakeDriver, monkeypatch: Patch) -> None:
    def change(embeds: mx.array, seen: bool) -> mx.array:
        if seen:
            raise ValueError("odd pixels")
        return embeds

    driver = drive()
    around_the_embeddings(driver, monkeypatch, change)
    proof = proof_of(driver)
    assert off(proof) == {"pictures", "several_pictures"}
    assert "odd pixels" in proof.reasons["pictures"]


def test_pictures_of_which_the_tower_looks_at_all(drive: MakeDriver, monkeypatch: Patch) -> None:
    """A tower whose features of a picture depend on the others of its prompt."""
    driver = drive()
    kind = type(driver.model.network.vision_tower)
    call = kind.__call__

    def together(self: Any, pixels: mx.array, *args: Any, **given: Any) -> Any:
        return call(self, pixels, *args, **given) + 10 * pixels.mean()

    monkeypatch.setattr(kind, "__call__", together)
    assert off(proof_of(driver)) == {"picture_splitting"}


def test_what_a_template_cannot_take_is_not_asked(drive: MakeDriver, monkeypatch: Patch) -> None:
    """moondream: its prompt is one question about one picture."""
    driver = drive()
    write = driver.engine.writer.write

    def one_turn(asked: Any) -> str:
        if len(asked.messages) > 1:
            raise AttributeError("'str' object has no attribute 'items'")
        return write(asked)

    monkeypatch.setattr(driver.engine.writer, "write", one_turn)
    assert off(proof_of(driver)) == set()


def test_a_model_without_a_template_is_asked_bare_words(
    drive: MakeDriver, monkeypatch: Patch
) -> None:
    driver = drive("llama")

    def none(asked: Any) -> str:
        if asked.prompt is None:
            raise ValueError("no chat template")
        return str(asked.prompt)

    monkeypatch.setattr(driver.engine.writer, "write", none)
    assert off(proof_of(driver)) == set()


def test_a_language_model_that_mlx_vlm_cannot_cut_is_asked_in_one_piece(
    drive: MakeDriver, monkeypatch: Patch
) -> None:
    """phi, stablelm: mlx-vlm names their tokens as they do not, where it cuts off the last."""
    driver = drive("llama")
    kind = type(driver.model.network.language_model)
    call = kind.__call__
    monkeypatch.setattr(
        kind, "__call__", lambda self, x, *given, **named: call(self, x, *given, **named)
    )
    assert off(proof_of(driver)) == set()


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


# --- a model that is not served ------------------------------------------------------------------


def test_a_model_whose_single_row_differs_is_not_served(
    drive: MakeDriver, monkeypatch: Patch
) -> None:
    driver = drive("llama")
    forward = driver.model.forward
    monkeypatch.setattr(driver.model, "forward", lambda *a, **given: skewed(forward(*a, **given)))
    with pytest.raises(ModelError, match=r"not what mlx-vlm itself answers .*text 1, alone"):
        proof_of(driver)


def test_a_model_that_mlx_vlm_cannot_run_is_not_served(
    drive: MakeDriver, monkeypatch: Patch
) -> None:
    def change(tokens: mx.array, logits: mx.array) -> mx.array:
        raise ValueError("no kernel for that")

    driver = drive("llama")
    around_the_language_model(driver, monkeypatch, change)
    with pytest.raises(ModelError, match="no kernel for that"):
        proof_of(driver)


# --- what is off stays off -----------------------------------------------------------------------


def serving_without(driver: Driver, *names: str) -> None:
    abilities = driver.model.family.abilities.without(*names)
    options = EngineOptions(model_path="", largest_piece=8)
    go_by(driver.engine, options, Proof(abilities, dict.fromkeys(names, False)))


def answers(driver: Driver, images: Sequence[bytes] = ()) -> list[list[int]]:
    first = driver.run(job("1", "Hello"), job("2", "How many shapes are there? " * 4, images))
    return [result.tokens for result in first]


@pytest.mark.parametrize(
    "name", sorted(set(Abilities().as_dict()) - {"pictures", "several_pictures"})
)
def test_answers_are_the_same_without(name: str, drive: MakeDriver, monkeypatch: Patch) -> None:
    driver = drive()
    images = [picture("red"), picture("blue", (70, 120))]
    expected = answers(driver, images)
    serving_without(driver, name)
    rows, pieces = [], []
    forward = driver.model.forward

    def look(tokens: mx.array, *given: Any, **named: Any) -> mx.array:
        rows.append(tokens.shape[0])
        pieces.append(tokens.shape[1])
        return forward(tokens, *given, **named)

    monkeypatch.setattr(driver.model, "forward", look)
    assert answers(driver, images) == answers(driver, images) == expected
    gauges = driver.engine.gauges()
    assert (max(rows) == 1) == (name == "batching")
    assert (max(pieces) > 8) == (name == "pieces")
    assert (gauges["prefix_cache_hits"] == 0) == (name == "prefix_cache")
    if name == "vision_cache":
        assert gauges["vision_cache_hits"] == gauges["vision_cache_bytes"] == 0
    assert driver.engine.facts.proven == {name: False}


def test_pictures_that_are_off_are_refused_and_text_is_not(drive: MakeDriver) -> None:
    driver = drive()
    serving_without(driver, "pictures", "several_pictures")
    failed = driver.solo(job("1", images=[picture("red")])).failed
    assert failed is not None and failed.code == "invalid_request"
    assert "takes none" in failed.message
    assert driver.solo(job("2")).done and not driver.engine.facts.vision


def test_several_pictures_that_are_off_are_refused(drive: MakeDriver) -> None:
    driver = drive()
    serving_without(driver, "several_pictures")
    failed = driver.solo(job("1", images=[picture("red"), picture("blue")])).failed
    assert failed is not None and "takes one image" in failed.message
    assert driver.solo(job("2", images=[picture("red")])).done


def test_what_cannot_be_made_ready_is_no_crash(
    checkpoint: Callable[[str], Path], monkeypatch: Patch
) -> None:
    """Whatever a model trips over, it will again: the worker ends with one sentence."""

    def fail(engine: Any) -> None:
        raise AttributeError("keys are None")

    monkeypatch.setattr("worker.engine.load.warm_up", fail)
    with pytest.raises(ModelError, match="cannot be made ready: keys are None"):
        Driver(EngineOptions(model_path=str(checkpoint("llama"))))


def test_memory_may_be_there_next_time(
    checkpoint: Callable[[str], Path], monkeypatch: Patch
) -> None:
    def fail(engine: Any) -> None:
        raise RuntimeError("[malloc] Unable to allocate 5 bytes")

    monkeypatch.setattr("worker.engine.load.warm_up", fail)
    with pytest.raises(RuntimeError, match="allocate"):
        Driver(EngineOptions(model_path=str(checkpoint("llama"))))

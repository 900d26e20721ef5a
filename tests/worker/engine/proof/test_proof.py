"""A fault of each kind, put into a model that has none, costs it just what is wrong with it."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

import mlx.core as mx
import pytest

from tests.worker.engine.conftest import MakeDriver
from tests.worker.engine.proof.spoiling import (
    SEEING,
    TEXT_ONLY,
    Call,
    Patch,
    around_the_language_model,
    before_the_language_model,
    off,
    offset_of,
    proof_of,
    skewed,
)
from worker.engine.cache.slots import SlotCache, SlotLayer
from worker.engine.load import go_by
from worker.engine.model.family import Abilities
from worker.engine.options import EngineOptions
from worker.engine.proof.lengths import lengths_of

pytestmark = pytest.mark.usefixtures("short_prompts_alone")


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


def test_rows_that_look_at_what_others_have_left(drive: MakeDriver, monkeypatch: Patch) -> None:
    """paligemma: an answer's tokens have no mask, so that a row which joins where a longer one has
    been looks at that one's keys. Rows that begin together have nothing but zeros there."""
    driver = drive("paligemma")
    family = driver.model.family
    assert not family.abilities.batching
    abilities = replace(family.abilities, batching=True, speculation=True)
    monkeypatch.setattr(driver.model, "family", replace(family, abilities=abilities))
    assert {"batching", "speculation"} <= off(proof_of(driver))


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


# --- beyond what a model declares ----------------------------------------------------------------

FAR = 400
"""More tokens than questions have that go beyond a block of the caches."""


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


# --- templates, and what mlx-vlm cannot cut -------------------------------------------------------


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

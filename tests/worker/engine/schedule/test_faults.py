"""One failure domain per request, and nothing left behind by what ends early."""

from __future__ import annotations

import random
import shutil
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import mlx.core as mx
import pytest

from shared.messages import ResponseFormat, Resume
from tests.worker.engine.conftest import MakeDriver
from tests.worker.engine.driving import job, picture, sampled
from tests.worker.engine.schedule.bystanders import (
    empty,
    finish,
    finish_others,
    running,
)
from worker.engine.model.vision_tower import CachedVisionTower
from worker.engine.prepare.preprocess import Preprocessor
from worker.engine.sampling.sampling import Rules, Sampler
from worker.engine.schedule.batch import DecodeBatch

OOM = "[malloc] Unable to allocate 123 bytes."


def test_a_bad_image_fails_its_own_request(drive: MakeDriver, expected: list[list[int]]) -> None:
    driver = drive()
    running(driver)
    driver.submit(job("bad", "What?", [b"this is no picture"]))
    assert finish(driver) == expected
    failed = driver.results["bad"].failed
    assert failed is not None and failed.code == "invalid_image"
    assert not driver.results["bad"].accepted
    assert empty(driver)


def test_images_for_a_text_model_are_refused(drive: MakeDriver) -> None:
    failed = drive("llama").solo(job("x", "What?", [picture("red")])).failed
    assert failed is not None and failed.code == "invalid_request"


def test_a_failing_image_tower_fails_its_own_request(
    drive: MakeDriver, expected: list[list[int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    driver = drive()
    running(driver)

    def fail(*args: Any, **kwargs: Any) -> Any:
        raise ValueError("odd shape")

    monkeypatch.setattr(CachedVisionTower, "__call__", fail)
    driver.submit(job("bad", "What?", [picture("red")]))
    assert finish(driver) == expected
    failed = driver.results["bad"].failed
    assert failed is not None and failed.code == "internal_error" and "odd shape" in failed.message
    monkeypatch.undo()
    assert driver.solo(job("good", "What?", [picture("red")])).failed is None


def test_what_fails_for_one_choice_fails_the_whole_request(
    drive: MakeDriver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Resumed choices are prefilled one by one; the second is not tried after the first."""
    driver = drive()
    embed, failures = driver.model.embed, [True]

    def fail_once(*args: Any) -> Any:
        if failures:
            failures.clear()
            raise ValueError("only now")
        return embed(*args)

    monkeypatch.setattr(driver.model, "embed", fail_once)
    resume = [Resume(tokens=[40]), Resume(tokens=[41, 42])]
    failed = driver.solo(job("bad", choices=2, resume=resume)).failed
    assert failed is not None and "only now" in failed.message
    assert empty(driver)
    assert driver.solo(job("good")).failed is None


@pytest.mark.parametrize(("words", "code"), [("boom", "internal_error"), (OOM, "out_of_memory")])
def test_a_failing_prefill_fails_its_own_request(
    words: str,
    code: str,
    drive: MakeDriver,
    expected: list[list[int]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    driver = drive()
    running(driver)
    forward = driver.model.forward

    def fail(tokens: mx.array, *args: Any, **kwargs: Any) -> mx.array:
        if tokens.shape[1] > 1:
            raise RuntimeError(words)
        return forward(tokens, *args, **kwargs)

    monkeypatch.setattr(driver.model, "forward", fail)
    driver.submit(job("bad", "A newcomer"))
    assert finish(driver) == expected
    failed = driver.results["bad"].failed
    assert failed is not None and failed.code == code
    assert empty(driver)


def test_after_a_failed_step_everybody_goes_on(
    drive: MakeDriver, expected: list[list[int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    driver = drive()
    running(driver)
    step, failures = DecodeBatch.step, iter([True])

    def fail_once(batch: DecodeBatch, deliver: Any) -> None:
        if next(failures, False):
            raise RuntimeError("a step fails")
        step(batch, deliver)

    monkeypatch.setattr(DecodeBatch, "step", fail_once)
    assert finish(driver) == expected
    assert all(driver.results[f"b{i}"].failed is None for i in range(3))
    assert [r.done.usage.completion_tokens for r in driver.results.values()] == [40] * 3


def short() -> Any:
    return job("short", "I leave soon", max_tokens=5)


def test_a_row_that_cannot_be_remembered_ends_as_it_would_have(
    drive: MakeDriver, expected: list[list[int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    driver = drive()
    running(driver)

    def fail(batch: DecodeBatch, row: Any) -> Any:
        raise RuntimeError(OOM)

    monkeypatch.setattr(DecodeBatch, "parts", fail)
    driver.submit(short())
    assert finish(driver) == expected
    monkeypatch.undo()
    assert driver.results["short"].tokens == drive().solo(short()).tokens
    assert all(result.failed is None for result in driver.results.values())
    assert empty(driver)


@pytest.mark.parametrize("cancelled", [False, True], ids=["done", "cancelled"])
def test_when_a_row_cannot_be_taken_out_the_others_go_on(
    cancelled: bool, drive: MakeDriver, expected: list[list[int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    driver = drive()
    running(driver)
    leave, failures = DecodeBatch.leave, iter([True])

    def fail_once(batch: DecodeBatch, gone: Any) -> None:
        if gone and next(failures, False):
            raise RuntimeError("nobody leaves")
        leave(batch, gone)

    driver.submit(short())
    driver.until(lambda: len(driver.results["short"].tokens) > 2)
    monkeypatch.setattr(DecodeBatch, "leave", fail_once)
    if cancelled:
        assert driver.engine.cancel("short")
    assert finish_others(driver) == expected
    monkeypatch.undo()
    assert next(failures, None) is None
    assert all(result.failed is None for result in driver.results.values())
    assert empty(driver)


def test_after_steps_that_always_failed_the_next_request_is_served(
    drive: MakeDriver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A job is given up after a few failures, and the engine is not poisoned by them."""
    driver = drive()

    def fail(batch: DecodeBatch, deliver: Any) -> None:
        raise RuntimeError("every step fails")

    monkeypatch.setattr(DecodeBatch, "step", fail)
    failed = driver.solo(job("x")).failed
    assert failed is not None and "every step fails" in failed.message
    assert empty(driver)
    monkeypatch.undo()
    assert driver.solo(job("y")).tokens == drive().solo(job("y")).tokens


def test_streams_go_on_while_a_picture_is_prepared(
    drive: MakeDriver, monkeypatch: pytest.MonkeyPatch
) -> None:
    driver = drive()
    running(driver)
    let_go = threading.Event()
    prepare = Preprocessor.prepare

    def wait_first(preprocessor: Preprocessor, made: Any, images: Any) -> Any:
        assert let_go.wait(60)
        return prepare(preprocessor, made, images)

    monkeypatch.setattr(Preprocessor, "prepare", wait_first)
    driver.submit(job("slow", "What?", [picture("red")]))
    try:
        assert [len(tokens) for tokens in finish_others(driver)] == [40] * 3
        assert not driver.results["slow"].events
    finally:
        let_go.set()
    driver.until(lambda: driver.results["slow"].over)
    assert driver.results["slow"].failed is None


def test_the_culprit_of_a_failed_step_is_found(
    drive: MakeDriver, expected: list[list[int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A row that breaks every batch it is in fails; the others say what they would have said."""
    driver = drive()
    running(driver)
    make, choose = Sampler.__init__, Sampler.choose
    broken: list[Sampler] = []

    def noting(sampler: Sampler, rules: Sequence[Rules], *others: Any) -> None:
        make(sampler, rules, *others)
        if any(rule.seed == 666 for rule in rules):
            broken.append(sampler)

    def fail_beside_the_culprit(sampler: Sampler, logits: mx.array, places: Any) -> mx.array:
        if any(sampler is one for one in broken):
            raise ValueError("cannot be sampled")
        return choose(sampler, logits, places)

    monkeypatch.setattr(Sampler, "__init__", noting)
    monkeypatch.setattr(Sampler, "choose", fail_beside_the_culprit)
    driver.submit(job("culprit", "I break things", sampling=sampled(666)))
    assert finish(driver) == expected
    failed = driver.results["culprit"].failed
    assert failed is not None and "cannot be sampled" in failed.message
    assert empty(driver)


def test_a_schema_that_cannot_be_used_is_the_requests_own_fault(drive: MakeDriver) -> None:
    wrong = ResponseFormat(schema={"type": "no such type"})
    failed = drive().solo(job("x", response_format=wrong)).failed
    assert failed is not None
    assert (failed.code, failed.param) == ("invalid_request", "response_format")


def test_a_conversation_that_the_template_refuses_is_a_wrong_request(
    drive: MakeDriver, checkpoint: Callable[[str], Path], tmp_path: Path
) -> None:
    strict = shutil.copytree(checkpoint("qwen2_vl"), tmp_path / "strict")
    template = "{{ raise_exception('roles must alternate') }}"
    (strict / "chat_template.jinja").write_text(template)
    failed = drive(model_path=strict).solo(job("x")).failed
    assert failed is not None
    assert failed.code == "invalid_request" and "roles must alternate" in failed.message


@pytest.mark.parametrize("when", ["coming", "waiting", "prefilling", "decoding"])
def test_a_cancelled_job_is_gone_wherever_it_is(
    when: str, drive: MakeDriver, expected: list[list[int]]
) -> None:
    driver = drive(max_rows=3 if when == "waiting" else 64)
    running(driver)
    driver.submit(job("x", "Hello " * 300, [picture("red")], max_tokens=30))
    engine, result = driver.engine, driver.results["x"]
    if when != "coming":
        driver.until(lambda: result.accepted)
    if when == "decoding":
        driver.until(lambda: len(result.tokens) > 3)
    assert engine.cancel("x")
    assert not engine.cancel("x")
    before = len(result.events)
    assert finish_others(driver) == expected
    assert len(result.events) == before
    assert empty(driver)


def test_nothing_stays_after_many_random_ends(drive: MakeDriver) -> None:
    driver, chance = drive(prefix_cache_bytes=0, vision_cache_bytes=0), random.Random(5)
    gone: set[str] = set()
    pictures = [picture("red"), b"broken", picture("blue", (60, 60))]
    for i in range(60):
        images = [chance.choice(pictures)] if chance.random() < 0.3 else []
        choices = chance.choice([1, 1, 2])
        driver.submit(job(str(i), "Hi " * chance.randint(1, 60), images, choices=choices))
        for _ in range(chance.randint(0, 3)):
            driver.turn()
        if chance.random() < 0.4:
            leaves = str(chance.randint(0, i))
            gone.add(leaves)
            driver.engine.cancel(leaves)
    results = driver.results.items()
    driver.until(lambda: all(result.over or name in gone for name, result in results))
    driver.turn()
    assert empty(driver)
    assert driver.solo(job("after")).failed is None

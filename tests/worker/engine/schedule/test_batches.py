"""Rows of unlike lengths decode side by side, and nobody can tell."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest

from scripts.checkpoints.families import FAMILIES, SEEING
from shared.messages import ResponseFormat, Sampling
from tests.worker.engine.conftest import MakeDriver
from tests.worker.engine.driving import Driver, job, picture, sampled
from worker.engine.schedule import batches
from worker.engine.schedule.batch import DecodeBatch
from worker.engine.schedule.batches import Batches


@pytest.fixture
def apart(monkeypatch: pytest.MonkeyPatch) -> None:
    """No padding is worth sharing a batch."""
    monkeypatch.setattr(batches, "LEAST_PADDING_BYTES", 0)
    monkeypatch.setattr(batches, "MOST_PADDING", 0.0)


def jobs_for(family: str) -> list[Any]:
    jobs = [
        job("short", "Hello"),
        job("long", "How many shapes are there? " * 12),
        job("sampled", "Hello, how are you? " * 4, sampling=sampled(3), max_tokens=14),
        job("choices", "And you?", choices=2, sampling=sampled(5), logprobs=2),
    ]
    if family in SEEING:
        jobs.append(job("picture", "What is it?", [picture("red")]))
    return jobs


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.usefixtures("apart")
def test_rows_apart_say_what_they_say_alone(
    family: str, drive: MakeDriver, anew: MakeDriver
) -> None:
    jobs = jobs_for(family)
    alone = [anew(family, prefix_cache_bytes=0).solo(made) for made in jobs]
    driver = drive(family, prefix_cache_bytes=0)
    most = watch_count(driver)
    together = driver.run(*jobs)
    for solo, beside in zip(alone, together, strict=True):
        assert [beside.tokens_of(i) for i in (0, 1)] == [solo.tokens_of(i) for i in (0, 1)]
        assert beside.text == solo.text
    assert most[0] >= 2


def batches_of(driver: Driver) -> int:
    return int(driver.engine.gauges()["batches"])


def watch_count(driver: Driver) -> list[int]:
    """The most batches there are at once from now on."""
    most, step = [0], driver.engine.step

    def watched() -> Any:
        events = step()
        most[0] = max(most[0], batches_of(driver))
        return events

    driver.engine.step = watched  # type: ignore[method-assign]
    return most


@pytest.mark.usefixtures("apart")
def test_a_grammar_and_a_penalty_hold_apart_too(anew: MakeDriver) -> None:
    schema = {"type": "object", "properties": {"a": {"enum": ["b", "c"]}}, "required": ["a"]}
    formed = ResponseFormat(schema={**schema, "additionalProperties": False})
    jobs = [
        job("formed", "Hello", response_format=formed, sampling=sampled(3), max_tokens=60),
        job("plain", "Hello, how are you? " * 6),
        job("penal", "Hi", sampling=Sampling(seed=1, temperature=0.0, presence_penalty=2.0)),
    ]
    alone = [anew().solo(made) for made in jobs]
    assert [r.tokens for r in anew().run(*jobs)] == [r.tokens for r in alone]


@dataclass
class Row:
    """As much of a sequence as the choice of a batch looks at."""

    fed: int


class Model:
    """As much of a model as the choice of a batch looks at."""

    bytes_per_token = 1.0
    weight_bytes = 4000
    vocabulary = 8


@pytest.fixture
def no_caches(monkeypatch: pytest.MonkeyPatch) -> None:
    def join(batch: DecodeBatch, rows: Any, cache: Any, *, is_batch: bool) -> None:
        batch.rows.extend(rows)

    monkeypatch.setattr(DecodeBatch, "join", join)


@pytest.mark.usefixtures("no_caches")
def test_rows_share_a_batch_while_padding_costs_less_than_weights(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(batches, "LEAST_PADDING_BYTES", 0)
    monkeypatch.setattr(batches, "MOST_PADDING", 0.25)  # 1000 tokens
    model: Any = Model()
    many = Batches(model)
    for tokens, expected in [(100, 1), (200, 1), (150, 1), (900, 2), (1000, 2), (160, 2)]:
        rows: Any = [Row(tokens)]
        many.join(rows, [], is_batch=False)
        assert many.count == expected, tokens
    assert [row.fed for row in many.rows] == [*(100, 200, 150, 160), *(900, 1000)]


@pytest.mark.usefixtures("apart")
def test_a_batch_goes_with_its_last_row(anew: MakeDriver) -> None:
    driver = anew()
    driver.submit(job("short", "Hello", max_tokens=30, ignore_eos=True))
    driver.until(lambda: driver.results["short"].tokens)
    driver.submit(job("long", "How many? " * 30, max_tokens=3, ignore_eos=True))
    driver.until(lambda: driver.results["long"].tokens)
    assert batches_of(driver) == 2
    driver.until(lambda: driver.results["long"].over)
    driver.until(lambda: batches_of(driver) == 1)
    assert driver.engine.cancel("short")
    assert batches_of(driver) == 0 and not driver.engine.has_work()


@pytest.mark.usefixtures("apart")
def test_a_failed_step_of_one_batch_costs_nobody_an_answer(
    drive: MakeDriver, anew: MakeDriver, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs = [job(str(i), "Hello " * (1 + 9 * i), sampling=sampled(i), max_tokens=20) for i in (0, 1)]
    alone = [anew().solo(made) for made in jobs]
    driver = drive()
    driver.submit(jobs[0])
    driver.until(lambda: driver.results["0"].tokens)
    driver.submit(jobs[1])
    driver.until(lambda: batches_of(driver) == 2)
    step, failures = DecodeBatch.step, [True]

    def fail_once(batch: DecodeBatch, deliver: Any) -> None:
        if failures and [row.request.job.id for row in batch.rows] == ["1"]:
            failures.clear()
            raise RuntimeError("a step fails")
        step(batch, deliver)

    monkeypatch.setattr(DecodeBatch, "step", fail_once)
    driver.until(lambda: all(result.over for result in driver.results.values()))
    assert not failures
    assert [driver.results[str(i)].tokens for i in (0, 1)] == [solo.tokens for solo in alone]

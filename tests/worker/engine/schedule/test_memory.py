"""Memory runs out, or would: who waits, who gives way, and that nothing is lost."""

from __future__ import annotations

from typing import Any

import pytest

from tests.worker.engine.conftest import MakeDriver
from tests.worker.engine.driving import job, sampled
from tests.worker.engine.schedule.bystanders import empty, finish, running
from worker.engine.schedule.batch import DecodeBatch
from worker.engine.schedule.memory_budget import MemoryBudget

OOM = "[malloc] Unable to allocate 123 bytes."


def test_when_memory_runs_out_the_newcomer_gives_way(
    drive: MakeDriver, expected: list[list[int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    driver = drive()
    running(driver)
    join = DecodeBatch.join

    def no_room(batch: DecodeBatch, rows: Any, cache: Any, *, is_batch: bool) -> None:
        if len(batch) >= 3:
            raise RuntimeError(OOM)
        join(batch, rows, cache, is_batch=is_batch)

    monkeypatch.setattr(DecodeBatch, "join", no_room)
    driver.submit_prepared(job("newcomer", "Is there room?"))
    assert finish(driver) == expected
    failed = driver.results["newcomer"].failed
    assert failed is not None and failed.code == "out_of_memory"


def test_what_can_never_fit_is_refused_and_what_may_fit_waits(
    drive: MakeDriver, monkeypatch: pytest.MonkeyPatch
) -> None:
    driver = drive()
    one = int((40 + 40) * driver.engine.gauges()["cache_bytes_per_token"])
    monkeypatch.setattr(MemoryBudget, "for_jobs_bytes", 2 * one)
    jobs = [job(str(i), "Hello", sampling=sampled(i), max_tokens=40) for i in range(5)]
    results = driver.run(*jobs, job("huge", "Hello", max_tokens=4000, choices=4))
    assert all(result.failed is None for result in results[:5])
    assert results[5].failed is not None and results[5].failed.code == "out_of_memory"
    assert empty(driver)


def long_answers(count: int, tokens: int | None) -> list[Any]:
    return [
        job(str(i), f"Tell me {i}", sampling=sampled(i), max_tokens=tokens, ignore_eos=True)
        for i in range(count)
    ]


def test_a_long_answer_that_was_asked_for_is_believed(
    drive: MakeDriver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two that fit only one after the other do not run side by side."""
    driver = drive()
    monkeypatch.setattr("worker.engine.schedule.memory_budget.EXPECTED_ANSWER_TOKENS", 1)
    per_token = driver.engine.gauges()["cache_bytes_per_token"]
    monkeypatch.setattr(MemoryBudget, "for_jobs_bytes", int(180 * per_token))
    driver.submit(*long_answers(2, 120))
    rows = []
    while not all(result.over for result in driver.results.values()):
        driver.turn()
        rows.append(driver.engine.gauges()["rows"])
    assert max(rows) == 1
    assert all(result.failed is None for result in driver.results.values())


def test_when_answers_outgrow_memory_the_youngest_waits_and_loses_nothing(
    drive: MakeDriver, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs = long_answers(3, None)
    monkeypatch.setattr("worker.engine.schedule.request.NO_LIMIT", 80)
    plain = drive(prefix_cache_bytes=0)
    alone = [plain.solo(made).tokens for made in jobs]
    driver = drive(prefix_cache_bytes=0)
    monkeypatch.setattr("worker.engine.schedule.memory_budget.EXPECTED_ANSWER_TOKENS", 1)
    per_token = driver.engine.gauges()["cache_bytes_per_token"]
    monkeypatch.setattr(MemoryBudget, "for_jobs_bytes", int(190 * per_token))
    driver.submit(*jobs)
    driver.until(lambda: driver.engine.gauges()["rows"] == 3)
    driver.until(lambda: driver.engine.gauges()["waiting"] == 1)
    driver.until(lambda: all(result.over for result in driver.results.values()))
    assert [driver.results[str(i)].tokens for i in range(3)] == alone
    assert driver.results["2"].done.usage.cached_tokens == 0
    assert empty(driver)


def test_what_is_remembered_gives_way_to_requests(
    drive: MakeDriver, monkeypatch: pytest.MonkeyPatch
) -> None:
    driver = drive()
    driver.solo(job("first", "Something to remember. " * 20))
    gauges = driver.engine.gauges()
    assert gauges["prefix_cache_bytes"] > 0
    room = int(200 * gauges["cache_bytes_per_token"])
    monkeypatch.setattr(MemoryBudget, "for_jobs_bytes", room)
    assert driver.solo(job("second", "Hi", max_tokens=150, ignore_eos=True)).failed is None
    assert driver.engine.gauges()["prefix_cache_bytes"] <= room

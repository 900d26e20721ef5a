"""Three requests beside which something happens, and how they end."""

from __future__ import annotations

from typing import Any

from tests.worker.engine.driving import Driver, job, sampled


def bystanders() -> list[Any]:
    return [job(f"b{i}", f"Bystander {i}", sampling=sampled(i), max_tokens=40) for i in range(3)]


def running(driver: Driver) -> None:
    driver.submit(*bystanders())
    driver.until(lambda: all(len(result.tokens) > 2 for result in driver.results.values()))


def finish(driver: Driver) -> list[list[int]]:
    driver.until(lambda: all(result.over for result in driver.results.values()))
    return [driver.results[f"b{i}"].tokens for i in range(3)]


def empty(driver: Driver) -> bool:
    gauges = driver.engine.gauges()
    return (
        not any(driver.engine.cancel(name) for name in driver.results)
        and not driver.engine.has_work()
        and gauges["rows"] == gauges["waiting"] == gauges["memory_reserved_bytes"] == 0
    )


def finish_others(driver: Driver) -> list[list[int]]:
    driver.until(lambda: all(driver.results[f"b{i}"].over for i in range(3)))
    return [driver.results[f"b{i}"].tokens for i in range(3)]

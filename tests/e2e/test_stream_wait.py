"""Streams that wait for a slot, where the operator lets them, through real processes."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.processes import Service, serving
from tests.waiting import await_condition

FLAGS = ("--engine", "scripted", "--max-concurrency", "1", "--max-streams", "1")


@pytest.fixture(scope="module")
def service() -> Iterator[Service]:
    with serving(gateway_flags=("--stream-wait", "1.5"), worker_flags=FLAGS) as running:
        yield running


def queue(service: Service) -> dict[str, Any]:
    return dict(service.get("/v1/queue/stats")["queue_stats"])


def test_a_stream_waits_its_turn_and_is_told_when_that_takes_too_long(service: Service) -> None:
    with ThreadPoolExecutor(3) as pool:
        running = pool.submit(service.script, stream=True, tokens=40, delay_s=0.02)
        await_condition(lambda: queue(service)["active_requests"] == 1, "the first runs")
        waiting = pool.submit(service.script, stream=True, tokens=200, delay_s=0.02)
        await_condition(lambda: queue(service)["queue_size"] == 1, "the second waits")
        assert running.result().text.endswith("data: [DONE]\n\n")
        await_condition(lambda: queue(service)["queue_size"] == 0, "the second has its slot")
        refused = service.script(stream=True, tokens=1)
        assert waiting.result().status_code == 200
    assert refused.status_code == 429 and int(refused.headers["Retry-After"]) >= 1
    assert refused.json()["error"]["code"] == "queue_full"

"""Counting tokens beside generations, with real processes."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.processes import Service, serving
from tests.scripted import scripted
from tests.waiting import TIMEOUT_S, await_condition

PATH = "/v1/messages/count_tokens"
ENDLESS: dict[str, Any] = {"tokens": 5000, "delay_s": 0.05}


@pytest.fixture
def narrow() -> Iterator[Service]:
    """One slot of each kind and no queue."""
    flags = ("--engine", "scripted", "--max-concurrency", "1", "--max-streams", "1")
    with serving(gateway_flags=("--queue-size", "0"), worker_flags=flags) as service:
        yield service


def counted(service: Service, **script: Any) -> httpx.Response:
    content = f"script: {json.dumps(script)}"
    return service.ask({"messages": [{"role": "user", "content": content}]}, PATH)


async def test_counting_takes_no_slot_and_leaves_no_trace_in_the_statistics(
    narrow: Service,
) -> None:
    async with httpx.AsyncClient(base_url=narrow.url, timeout=TIMEOUT_S) as client:

        async def stats() -> dict[str, Any]:
            body: dict[str, Any] = (await client.get("/v1/queue/stats")).json()
            return body

        running = [
            asyncio.create_task(client.post("/v1/chat/completions", json=body))
            for body in (scripted(**ENDLESS), scripted(stream=True, **ENDLESS))
        ]
        await asyncio.to_thread(
            await_condition,
            lambda: narrow.get("/v1/queue/stats")["queue_stats"]["active_requests"] == 2,
            "both slots are taken",
        )
        refused = await client.post("/v1/chat/completions", json=scripted())
        before = await stats()
        answer = await client.post(PATH, json={"messages": [{"role": "user", "content": "x" * 8}]})
        after = await stats()
        for task in running:
            task.cancel()
    assert refused.status_code == 429
    assert (answer.status_code, answer.json()) == (200, {"input_tokens": 2})
    assert before["metrics"]["total_requests"] == after["metrics"]["total_requests"]
    assert before["queue_stats"] == after["queue_stats"]


def test_a_count_survives_its_worker(tmp_path: Path) -> None:
    flags = ("--engine", "scripted", "--max-concurrency", "1")
    with serving(workers=2, worker_flags=flags) as service:
        answer = counted(service, fault="die", once=str(tmp_path / "died"))
        assert answer.status_code == 200, answer.text
        assert (tmp_path / "died").exists()


def test_what_cannot_be_counted_is_the_clients_error(narrow: Service) -> None:
    answer = counted(narrow, banana=1)
    assert answer.status_code == 400
    assert "banana" in answer.json()["error"]["message"]

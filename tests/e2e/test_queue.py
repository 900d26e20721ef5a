"""Slots, queue, deadlines and cancels through real processes; the answers are scripted."""

from __future__ import annotations

import asyncio
import random
import socket
import struct
import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from tests.processes import Service, answer_text, serving
from tests.scripted import scripted, words
from tests.waiting import await_condition

SLOTS = ("--engine", "scripted", "--max-concurrency", "1", "--max-streams", "2")
SHORT = ("--queue-size", "2", "--queue-timeout", "2")
DETAIL = "Too many requests. Service is at capacity."


@pytest.fixture(scope="module")
def service() -> Iterator[Service]:
    """Two workers with one slot and two stream slots each; two may wait."""
    with serving(workers=2, gateway_flags=SHORT, worker_flags=SLOTS) as running:
        yield running


@pytest.fixture(autouse=True)
def idle_afterwards(service: Service) -> Iterator[None]:
    yield
    await_condition(lambda: active(service) == (0, 0), "all slots free again")


def active(service: Service) -> tuple[int, int]:
    stats = service.get("/v1/queue/stats")
    held = sum(worker.get("active", 0) for worker in stats["workers"])
    return stats["queue_stats"]["active_requests"], held


def in_background(
    service: Service, pool: ThreadPoolExecutor, count: int, **script: Any
) -> list[Future[httpx.Response]]:
    started = [pool.submit(service.script, **script) for _ in range(count)]

    def admitted() -> bool:
        queue = service.get("/v1/queue/stats")["queue_stats"]
        return int(queue["active_requests"] + queue["queue_size"]) >= count

    await_condition(admitted, "all are admitted")
    return started


def test_a_full_queue_refuses_the_next_and_serves_the_others(service: Service) -> None:
    with ThreadPoolExecutor(8) as pool:
        running = in_background(service, pool, 4, tokens=20, delay_s=0.02)
        stats = service.get("/v1/queue/stats")["queue_stats"]
        assert stats == {
            "running": True,
            "queue_size": 2,
            "max_queue_size": 2,
            "active_requests": 2,
            "max_concurrency": 2,
        }
        refused = service.script(tokens=1)
        assert refused.status_code == 429
        assert refused.json()["detail"] == DETAIL
        assert refused.json()["error"]["code"] == "queue_full"
        assert int(refused.headers["Retry-After"]) >= 1
        assert all(answer_text(job.result()) == words(20) for job in running)


def test_a_stream_is_refused_before_any_event(service: Service) -> None:
    with ThreadPoolExecutor(8) as pool:
        streams = in_background(service, pool, 4, stream=True, tokens=80, delay_s=0.02)
        refused = service.script(stream=True, tokens=1)
        assert refused.status_code == 429
        assert refused.headers["content-type"] == "application/json"
        assert answer_text(service.script(tokens=1)) == words(1)
        assert all(job.result().text.endswith("data: [DONE]\n\n") for job in streams)


def test_deadline_while_decoding_is_a_504_and_stops_the_worker(service: Service) -> None:
    response = service.script(tokens=1000, delay_s=0.05)
    assert response.status_code == 504
    assert response.json()["error"]["code"] == "timeout"


def test_deadline_while_waiting(service: Service) -> None:
    with ThreadPoolExecutor(8) as pool:
        jobs = in_background(service, pool, 3, tokens=1, first_delay_s=30)
        errors = [job.result().json()["error"] for job in jobs]
    assert [error["code"] for error in errors] == ["timeout"] * 3


def test_deadline_of_a_silent_stream_is_an_error_event_and_no_done(service: Service) -> None:
    text = service.script(stream=True, tokens=9, delay_s=20).text
    assert '"code":"timeout"' in text.replace(" ", "")
    assert "[DONE]" not in text and '"finish_reason":"' not in text.replace(" ", "")


def test_deadline_before_the_first_token_is_a_504(service: Service) -> None:
    assert service.script(stream=True, tokens=1, first_delay_s=30).status_code in (200, 504)


def test_deadline_while_fetching_an_image() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/x.png"
        flags = ("--allow-private-image-hosts", "--queue-timeout", "1", "--fetch-timeout", "30")
        with serving(gateway_flags=flags) as service:
            part = {"type": "image_url", "image_url": {"url": url}}
            response = service.ask({"messages": [{"role": "user", "content": [part]}]})
            assert response.status_code == 504, response.text
            assert active(service) == (0, 0)


@pytest.mark.parametrize("stream", [True, False])
def test_a_client_that_leaves_frees_everything(service: Service, stream: bool) -> None:
    with pytest.raises(httpx.TimeoutException):
        body = scripted(stream=stream, tokens=1000, delay_s=0.05)
        timeout = httpx.Timeout(5, read=0.3)
        url = f"{service.url}/v1/chat/completions"
        if stream:
            with httpx.stream("POST", url, json=body, timeout=timeout) as response:
                for _ in response.iter_lines():
                    assert active(service)[0] == 1
                    raise httpx.ReadTimeout("enough")
        else:
            httpx.post(url, json=body, timeout=timeout)
    await_condition(lambda: active(service) == (0, 0), "the slot is free")


def counted(service: Service) -> float:
    """Requests admitted so far, by outcome, as Prometheus sees them."""
    text = service.client.get(f"{service.url}/metrics").text
    return sum(
        float(line.rpartition(" ")[2])
        for line in text.splitlines()
        if line.startswith("gateway_requests_total") and 'outcome="refused"' not in line
    )


async def test_a_thousand_random_cancels_leave_nothing_behind(service: Service) -> None:
    rng = random.Random(7)

    async def come_and_go(gate: asyncio.Semaphore) -> None:
        """Send a request and reset the connection at a random moment."""
        async with gate:
            script = {"tokens": rng.randrange(1, 30), "delay_s": rng.choice([0, 0.01])}
            body = httpx.Request("POST", "http://x", json=scripted(rng.random() < 0.5, **script))
            port = int(service.url.rpartition(":")[2])
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            head = (
                "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\n"
                f"Content-Type: application/json\r\nContent-Length: {len(body.content)}\r\n\r\n"
            )
            writer.write(head.encode() + body.content)
            await asyncio.sleep(rng.random() * 0.05)
            raw = writer.get_extra_info("socket")
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            writer.transport.abort()

    before = counted(service)
    gate = asyncio.Semaphore(16)
    await asyncio.gather(*(come_and_go(gate) for _ in range(1000)))

    def balanced() -> bool:
        # A reset connection may still be waiting to be accepted: it is counted when it is.
        total = service.get("/v1/queue/stats")["metrics"]["total_requests"]
        return active(service) == (0, 0) and counted(service) == total > before

    await asyncio.to_thread(await_condition, balanced, "everything is free and counted once")
    assert answer_text(service.script(tokens=3)) == words(3)


def test_refusals_disturb_none_of_those_who_run() -> None:
    full = serving(gateway_flags=("--queue-size", "2"), worker_flags=SLOTS)
    with full as service, ThreadPoolExecutor(8) as pool:
        running = in_background(service, pool, 3, tokens=60, delay_s=0.02)
        statuses = {service.script(tokens=1).status_code for _ in range(100)}
        assert 429 in statuses
        assert all(answer_text(job.result()) == words(60) for job in running)


def test_a_gateway_restart_under_load_breaks_only_its_own_connections() -> None:
    with serving(workers=1) as service:
        broken: list[Exception] = []

        def ask() -> None:
            try:
                service.script(tokens=1000, delay_s=0.02)
            except httpx.TransportError as error:
                broken.append(error)

        client = threading.Thread(target=ask)
        client.start()
        await_condition(lambda: active(service)[1] == 1, "it runs")
        service.gateway.process.kill()
        client.join()
        assert len(broken) == 1
        service.start_gateway_anew()
        service.await_ready(1)
        await_condition(lambda: active(service) == (0, 0), "its jobs are dropped")
        assert answer_text(service.script(tokens=2)) == words(2)

"""Images on their way from a request to a job."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from gateway.errors import DeadlinePassed
from tests.gateway.fake_dispatch import says
from tests.gateway.images.pictures import data_url, drawn
from tests.gateway.serving import gateway


def asking(*urls: str) -> dict[str, Any]:
    parts = [{"type": "image_url", "image_url": {"url": url}} for url in urls]
    return {"messages": [{"role": "user", "content": [*parts, {"type": "text", "text": "?"}]}]}


async def test_images_arrive_as_they_were_sent_and_in_order() -> None:
    files = [drawn("PNG", (5, 4)), drawn("JPEG", (6, 5)), drawn("WEBP", (7, 6))]
    async with gateway(says("Hi")) as running:
        response = await running.chat(**asking(*map(data_url, files)))
        ticket = running.dispatch.tickets[0]
    assert response.status_code == 200
    assert list(ticket.images) == files
    assert ticket.job is not None
    assert [info.width_px for info in ticket.job.images] == [5, 6, 7]
    assert [info.media_type for info in ticket.job.images] == [
        "image/png",
        "image/jpeg",
        "image/webp",
    ]
    assert [part.index for part in ticket.job.messages[0].content[:3]] == [0, 1, 2]  # type: ignore[union-attr]


async def test_one_bad_image_of_several_is_named() -> None:
    good = data_url(drawn("PNG"))
    async with gateway(says("Hi")) as running:
        response = await running.chat(**asking(good, data_url(b"no image"), good))
    assert response.status_code == 400
    assert response.json()["error"]["param"] == "messages[0].content[1].image_url.url"


async def test_limits_come_from_the_settings() -> None:
    large = data_url(drawn("PNG", (20, 20)))
    async with gateway(says("Hi"), max_image_pixels=399) as running:
        assert "399 pixels" in (await running.chat(**asking(large))).json()["detail"]
    async with gateway(says("Hi"), max_image_bytes=50) as running:
        assert "50 bytes" in (await running.chat(**asking(large))).json()["detail"]


async def test_health_answers_while_large_images_are_opened() -> None:
    huge = drawn("PNG", (4000, 3000), compress_level=0)
    assert len(huge) > 20_000_000
    settings = {"max_image_bytes": 40_000_000}
    async with gateway(says("Hi"), **settings) as running:
        url = data_url(huge)
        large = asyncio.create_task(running.chat(**asking(url)))
        slowest = 0.0
        while not large.done():
            began = time.monotonic()
            assert (await running.client.get("/health")).status_code == 200
            slowest = max(slowest, time.monotonic() - began)
        assert (await large).status_code == 200
    assert slowest < 0.5


async def test_a_deadline_ends_the_fetching_too() -> None:
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(-1)
        writer.close()

    server = await asyncio.start_server(silent, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/a.png"
    async with gateway(allow_private_image_hosts=True, fetch_timeout=30.0) as running:
        request = asyncio.create_task(running.chat(**asking(url)))
        ticket = await running.dispatch.reserved()
        ticket.fail(DeadlinePassed("The request was not done in time."))
        assert (await request).status_code == 504
        assert ticket.cancelled.is_set()
    server.close()

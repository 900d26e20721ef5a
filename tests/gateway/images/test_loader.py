"""Images on their way from a request to a job."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

import pytest

from gateway.dispatch.stats.metrics import Metrics
from gateway.errors import DeadlinePassed
from gateway.generation import ImageSource
from gateway.images.fetch import Fetcher, FetchLimits
from gateway.images.loader import ImageLimits, ImageLoader, ImageTimes
from gateway.images.sources import InvalidImage
from gateway.images.turns import Turns
from tests.gateway.fake_dispatch import says
from tests.gateway.images.pictures import budget, data_url, drawn
from tests.gateway.serving import gateway


def image_loader(times: ImageTimes | None = None) -> ImageLoader:
    fetcher = Fetcher(FetchLimits(1000, 1.0, 1, allow_private=False))
    limits = ImageLimits(40_000_000, 50_000_000, 100_000_000, max_images=4)
    return ImageLoader(fetcher, limits, times or Metrics())


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


async def test_health_answers_while_a_large_image_is_opened() -> None:
    """Were the image opened on the event loop, hardly any answer would come in between."""
    huge = drawn("PNG", (4000, 3000), compress_level=0)
    assert len(huge) > 20_000_000
    async with gateway(says("Hi")) as running:
        source = ImageSource(data_url(huge), "here")
        memory = budget().open()
        memory.take(len(source.url))
        opening = asyncio.create_task(image_loader().load([source], memory))
        answers = 0
        while not opening.done():
            assert (await running.client.get("/health")).status_code == 200
            answers += 1
        assert (await opening)[0][0][0].width_px == 4000
    assert answers >= 5


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


@pytest.mark.process
@pytest.mark.parametrize("image_format", ["HEIF", "PNG"])
async def test_pictures_whose_pixels_do_not_fit_together_wait_for_each_other(
    image_format: str,
) -> None:
    """Room for the pixels of one, of which a conversion has more."""
    size = (900, 900) if image_format == "HEIF" else (1800, 1800)
    picture = data_url(drawn(image_format, size))
    tight: dict[str, Any] = {"max_body_bytes": 1_000_000, "max_buffered_bytes": 20_000_000}
    async with gateway(says("Hi"), **tight) as running:
        asked = [running.chat(**asking(picture)) for _ in range(3)]
        answers = await asyncio.gather(*asked)
    assert [answer.status_code for answer in answers] == [200] * 3, answers[0].text


async def test_each_image_is_timed_as_it_is_fetched_and_decoded() -> None:
    times: dict[str, list[float]] = {"fetched": [], "decoded": []}

    class Times:
        image_fetched = staticmethod(times["fetched"].append)
        image_decoded = staticmethod(times["decoded"].append)

    loader = image_loader(Times())
    urls = [data_url(drawn("PNG", (5, 4))), data_url(b"no image"), "http://127.0.0.1/x.png"]
    for url in urls:
        with contextlib.suppress(InvalidImage):
            await loader.load([ImageSource(url, "here")], budget().open())
    await loader.close()
    assert [len(seconds) for seconds in times.values()] == [1, 2]
    assert all(seconds >= 0 for each in times.values() for seconds in each)


async def test_a_picture_that_takes_longer_than_its_pixels_is_charged_for_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    charged: list[float] = []
    monkeypatch.setattr("gateway.images.loader.PIXELS_A_SECOND", 1e15)
    monkeypatch.setattr(Turns, "charge", lambda turns, flow, cost: charged.append(cost))
    loader = image_loader()
    await loader.load([ImageSource(data_url(drawn("PNG")), "here")], budget().open())
    await loader.close()
    assert len(charged) == 2  # opened and decoded
    assert all(cost > 0 for cost in charged)

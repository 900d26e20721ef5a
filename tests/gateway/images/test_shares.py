"""One request's slow hosts and large pictures are its own: others' pictures go on."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

from tests.gateway.fake_dispatch import says
from tests.gateway.images.pictures import data_url, drawn
from tests.gateway.images.test_loader import asking
from tests.gateway.serving import gateway


@contextlib.asynccontextmanager
async def hosts(picture: bytes) -> AsyncIterator[int]:
    """A server on all loopback addresses that answers only for /picture, and takes its time."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            head = await reader.readuntil(b"\r\n\r\n")
            if head.startswith(b"GET /picture"):
                await asyncio.sleep(0.3)
                writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(picture))
                writer.write(picture)
                await writer.drain()
            else:
                await reader.read(-1)
        writer.close()

    server = await asyncio.start_server(serve, "0.0.0.0", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()


async def test_slow_hosts_of_some_do_not_time_out_the_pictures_of_others() -> None:
    settings = {"allow_private_image_hosts": True, "fetch_timeout": 0.5}
    async with hosts(drawn("PNG")) as port, gateway(says("Hi"), **settings) as running:
        slow = [
            running.chat(**asking(*(f"http://127.0.{r}.{n}:{port}/stall" for n in range(1, 17))))
            for r in range(1, 7)
        ]
        attack = [asyncio.create_task(each) for each in slow]
        await running.dispatch.reserved(5)
        answer = await running.chat(**asking(f"http://127.0.9.9:{port}/picture"))
        assert answer.status_code == 200, answer.text
        assert {(await each).status_code for each in attack} == {400}


async def test_large_pictures_of_some_do_not_hold_up_the_pictures_of_others() -> None:
    large = data_url(drawn("PNG", (4000, 4000), "L"))
    async with gateway(says("Hi")) as running:
        attack = [asyncio.create_task(running.chat(**asking(*[large] * 8))) for _ in range(6)]
        await running.dispatch.reserved(5)
        answer = await running.chat(**asking(data_url(drawn("PNG"))))
        assert answer.status_code == 200
        assert sum(each.done() for each in attack) <= 1
        assert {(await each).status_code for each in attack} == {200}


async def test_the_pixels_of_a_request_are_bounded_together() -> None:
    image = data_url(drawn("PNG", (20, 20)))
    async with gateway(says("Hi"), max_request_pixels=1000) as running:
        assert (await running.chat(**asking(image, image))).status_code == 200
        refused = await running.chat(**asking(image, image, image))
    assert refused.status_code == 400
    assert refused.json()["error"]["code"] == "invalid_image"
    assert "1000 pixels together" in refused.json()["detail"]

"""Names that nobody answers for hold up those who name them."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from collections.abc import Iterator

import pytest

from gateway.generation import ImageSource
from gateway.images.fetch import Fetcher, Fetching, FetchLimits
from gateway.images.lookups import resolve
from gateway.images.sources import InvalidImage
from tests.gateway.images.pictures import budget
from tests.gateway.images.test_fetch import answer, site

PLACES = 8
LIMITS = FetchLimits(max_bytes=1000, timeout_s=0.2, concurrency=PLACES, allow_private=True)


@pytest.fixture
def dead_names(monkeypatch: pytest.MonkeyPatch) -> Iterator[set[str]]:
    """Names of `.dead`, whose lookups hang until the test's end: those that were asked for."""
    asked: set[str] = set()
    given_up = threading.Event()
    look_up = socket.getaddrinfo

    def getaddrinfo(host: str, *rest: object, **more: object) -> object:
        if str(host).endswith(".dead"):
            asked.add(str(host))
            given_up.wait()
            raise socket.gaierror(socket.EAI_AGAIN, "given up")
        return look_up(host, *rest, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    yield asked
    given_up.set()


async def test_dead_names_of_some_do_not_time_out_the_pictures_of_others(
    dead_names: set[str],
) -> None:
    async with site({"/picture": answer(b"bytes")}) as host:
        fetcher, fetching = Fetcher(LIMITS, resolve), Fetching("many")

        async def fetch_dead(number: int) -> None:
            await fetcher.fetch(source(f"http://{number}.dead/"), fetching, budget().open("many"))

        attack = [asyncio.create_task(fetch_dead(number)) for number in range(5 * PLACES)]
        with pytest.raises(InvalidImage, match="took longer"):
            await attack[0]
        picture = source(f"http://localhost:{host.port}/picture")
        assert await fetcher.fetch(picture, Fetching("one"), budget().open("one")) == b"bytes"
        # Given up by us, they still keep a thread each.
        assert len(dead_names) == PLACES - PLACES // 4
        for each in attack:
            each.cancel()
            with contextlib.suppress(InvalidImage, asyncio.CancelledError):
                await each
        await fetcher.close()


def source(url: str) -> ImageSource:
    return ImageSource(url, "here")

"""Fetching from servers that lie, stall and redirect, by names that resolve to anything."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from gateway.generation import ImageSource
from gateway.images.addresses import may_connect
from gateway.images.fetch import Fetcher, Fetching, FetchLimits
from gateway.images.lookups import resolve
from gateway.images.sources import InvalidImage
from tests.gateway.images.pictures import budget

Handler = Callable[[str, asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class Site:
    """A bare HTTP server on loopback that answers as its script says, byte for byte."""

    def __init__(self, answers: dict[str, bytes]) -> None:
        self.answers = answers
        self.requests: list[str] = []
        self.open = 0
        self.most_open = 0
        self.gate: asyncio.Event | None = None
        self.port = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.open += 1
        self.most_open = max(self.most_open, self.open)
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            self.requests.append(head)
            if self.gate is not None:
                await self.gate.wait()
            path = head.split(" ")[1]
            writer.write(self.answers.get(path, answer(b"no", status="404 Not Found")))
            if path.startswith("/stall"):
                await reader.read(-1)
            await writer.drain()
        self.open -= 1
        writer.close()


def answer(body: bytes, status: str = "200 OK", **headers: str) -> bytes:
    lines = [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    if "content_length" not in headers:
        lines.append(f"content-length: {len(body)}")
    return (
        f"HTTP/1.1 {status}\r\n{chr(10).join(lines)}\r\n\r\n".replace("\n", "\r\n")
        .replace("\r\r", "\r")
        .encode()
        + body
    )


@contextlib.asynccontextmanager
async def site(answers: dict[str, bytes]) -> AsyncIterator[Site]:
    running = Site(answers)
    server = await asyncio.start_server(running.serve, "127.0.0.1", 0)
    running.port = server.sockets[0].getsockname()[1]
    try:
        yield running
    finally:
        if running.gate is not None:
            running.gate.set()
        server.close()


NAMES = {
    "pictures.example": ["127.0.0.1"],
    "half-dead.example": ["127.0.0.2", "127.0.0.1"],
    "public.example": ["93.184.216.34"],
    "two-faced.example": ["93.184.216.34", "10.0.0.1"],
    "metadata.example": ["169.254.169.254"],
    "mapped.example": ["::ffff:127.0.0.1"],
    "nowhere.example": [],
}


async def names(host: str, port: int) -> list[str]:
    if host in NAMES:
        return NAMES[host]
    return await resolve(host, port)


@contextlib.asynccontextmanager
async def fetcher(**limits: Any) -> AsyncIterator[Fetcher]:
    chosen = {"max_bytes": 1000, "timeout_s": 2.0, "concurrency": 8, "allow_private": True}
    built = Fetcher(FetchLimits(**(chosen | limits)), names)
    try:
        yield built
    finally:
        await built.close()


async def fetch(built: Fetcher, source: ImageSource) -> bytes:
    return await built.fetch(source, Fetching(), budget().open())


async def refusal(url: str, **limits: Any) -> str:
    async with fetcher(**limits) as built:
        with pytest.raises(InvalidImage) as caught:
            await fetch(built, ImageSource(url, "here"))
    assert caught.value.param == "here"
    return caught.value.message


async def test_an_image_is_fetched_by_the_name_it_was_asked_for() -> None:
    async with site({"/a.png?x=1": answer(b"picture")}) as running, fetcher() as built:
        url = f"http://pictures.example:{running.port}/a.png?x=1#fragment"
        assert await fetch(built, ImageSource(url, "here")) == b"picture"
    head = running.requests[0].lower()
    assert f"host: pictures.example:{running.port}\r\n" in head
    assert "cookie" not in head
    assert "accept-encoding: identity" in head


async def test_an_address_that_does_not_answer_gives_way_to_the_next() -> None:
    async with site({"/a.png": answer(b"picture")}) as running, fetcher() as built:
        url = f"http://half-dead.example:{running.port}/a.png"
        assert await fetch(built, ImageSource(url, "here")) == b"picture"


# Spellings of loopback and of the inside, as collections of such tricks list them.
TRICKS = [
    "http://127.0.0.1/",
    "http://127.1/",
    "http://127.0.1/",
    "http://127.127.127.127/",
    "http://2130706433/",
    "http://017700000001/",
    "http://0x7f000001/",
    "http://0x7f.1/",
    "http://0x7f.0x0.0x0.0x1/",
    "http://0177.0.0.01/",
    "http://0/",
    "http://0.0.0.0/",
    "http://00000.0/",
    "http://localhost/",
    "http://LOCALHOST/",
    "http://localhost./",
    "http://[::1]/",
    "http://[::]/",
    "http://[0:0:0:0:0:0:0:1]/",
    "http://[::ffff:127.0.0.1]/",
    "http://[::ffff:7f00:1]/",
    "http://[0:0:0:0:0:ffff:127.0.0.1]/",
    "http://[::127.0.0.1]/",
    "http://[64:ff9b::7f00:1]/",
    "http://[64:ff9b::169.254.169.254]/",
    "http://[2002:7f00:1::]/",
    "http://[fe80::1]/",
    "http://[fc00::1]/",
    "http://[fd00:ec2::254]/latest/meta-data/",
    "http://[ff02::1]/",
    "http://169.254.169.254/latest/meta-data/",
    "http://2852039166/latest/meta-data/",
    "http://0xa9fea9fe/",
    "http://0251.0376.0251.0376/",
    "http://100.100.100.200/",
    "http://168.63.129.16/",
    "http://192.0.0.192/",
    "http://10.0.0.1/",
    "http://172.16.0.1/",
    "http://192.168.0.1/",
    "http://192.168.0.1:8080/",
    "http://100.64.0.1/",
    "http://198.18.0.1/",
    "http://224.0.0.1/",
    "http://240.0.0.1/",
    "http://255.255.255.255/",
    "http://pictures.example/",
    "http://two-faced.example/",
    "http://metadata.example/",
    "http://mapped.example/",
    "http://nowhere.example/",
    "http://user:password@public.example/",
    "http://public.example@127.0.0.1/",
    "http://127.0.0.1\\@public.example/",
    "http://public.example%00.pictures.example/",
    "http://①②⑦.⓪.⓪.①/",
    "http://127。0。0。1/",
    "http:///",
    "http://",
    "http://:80/",
    "http://[/",
    "http://public.example:99999/",
    "http://public.example:-1/",
    "file:///etc/passwd",
    "ftp://public.example/a.png",
    "gopher://127.0.0.1:11211/_stats",
    "dict://127.0.0.1:11211/stats",
    "unix:///var/run/docker.sock",
    "jar:http://127.0.0.1!/",
    "//127.0.0.1/",
    "/etc/passwd",
]


@pytest.mark.parametrize("url", TRICKS)
async def test_tricks_are_refused(url: str) -> None:
    assert "took longer" not in await refusal(url, allow_private=False)


@pytest.mark.parametrize("url", TRICKS[:3])
async def test_redirects_to_the_inside_are_refused(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    redirect = answer(b"", status="302 Found", location=url)
    async with site({"/": redirect}) as running:
        public = f"http://public.example:{running.port}/"
        first = iter([True])

        async def here(host: str, port: int) -> list[str]:
            return ["127.0.0.1"] if host == "public.example" else await names(host, port)

        def site_may_be_asked_once(address: str, *, allow_private: bool) -> bool:
            return next(first, False) or may_connect(address, allow_private=allow_private)

        monkeypatch.setattr("gateway.images.fetch.may_connect", site_may_be_asked_once)
        built = Fetcher(FetchLimits(1000, 2.0, 8, allow_private=False), here)
        with pytest.raises(InvalidImage) as caught:
            await fetch(built, ImageSource(public, "here"))
        await built.close()
    assert "does not fetch from" in caught.value.message
    assert len(running.requests) == 1


async def test_the_checked_address_is_the_one_connected_to() -> None:
    """A name that resolves anew for every question cannot slip in another address."""
    asked = []

    async def rebinding(host: str, port: int) -> list[str]:
        asked.append(host)
        return ["127.0.0.1"] if len(asked) == 1 else ["169.254.169.254"]

    async with site({"/": answer(b"picture")}) as running:
        built = Fetcher(FetchLimits(1000, 2.0, 8, allow_private=True), rebinding)
        url = f"http://rebinding.example:{running.port}/"
        assert await fetch(built, ImageSource(url, "here")) == b"picture"
        await built.close()
    assert asked == ["rebinding.example"]


async def test_redirects_are_followed_three_times() -> None:
    answers = {
        f"/{n}": answer(b"", status="302 Found", location=f"/{n + 1}") for n in range(1, 5)
    } | {"/5": answer(b"picture"), "/loop": answer(b"", status="307 X", location="/loop")}
    async with site(answers) as running, fetcher() as built:
        base = f"http://pictures.example:{running.port}"
        assert await fetch(built, ImageSource(f"{base}/2", "here")) == b"picture"
        assert "redirects" in await refusal(f"{base}/1")
        assert "redirects" in await refusal(f"{base}/loop")


@pytest.mark.parametrize("location", ["file:///etc/passwd", "ftp://x/", "http://", "http://u:p@x/"])
async def test_redirects_to_elsewhere_are_refused(location: str) -> None:
    async with site({"/": answer(b"", status="301 X", location=location)}) as running:
        await refusal(f"http://pictures.example:{running.port}/")


LIES = {
    "/missing": (b"", "status 404"),
    "/error": (answer(b"x", status="500 Oh"), "status 500"),
    "/partial": (answer(b"x", status="206 Partial Content"), "status 206"),
    "/declared": (answer(b"x", content_length="5000"), "larger than 1000"),
    "/large": (answer(b"x" * 1001), "larger than 1000"),
    "/endless": (
        b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n" + b"x" * 5000,
        "larger than 1000",
    ),
    "/short": (answer(b"x", content_length="50"), "connection failed"),
    "/empty": (answer(b""), "empty"),
    "/gzip": (answer(gzip.compress(b"x" * 10**6), content_encoding="gzip"), "compressed"),
    "/garbage": (b"I am no HTTP\r\n\r\n", "connection failed"),
    "/nothing": (b"", "status 404"),
}


@pytest.mark.parametrize("path", LIES)
async def test_lying_servers_are_refused(path: str) -> None:
    data, words = LIES[path]
    async with site({path: data} if data else {}) as running:
        assert words in await refusal(f"http://pictures.example:{running.port}{path}")


async def test_a_slow_server_is_given_up() -> None:
    async with site({"/stall": answer(b"x", content_length="500")}) as running:
        message = await refusal(f"http://pictures.example:{running.port}/stall", timeout_s=0.2)
    assert "longer than 0.2 s" in message


async def test_only_listed_hosts_are_asked() -> None:
    hosts = ("pictures.example", "*.cdn.example")
    assert "certain hosts" in await refusal("http://public.example/", hosts=hosts)
    assert "certain hosts" in await refusal("http://cdn.example/", hosts=hosts)
    async with site({"/": answer(b"picture")}) as running, fetcher(hosts=hosts) as built:
        url = f"http://PICTURES.example:{running.port}/"
        assert await fetch(built, ImageSource(url, "here")) == b"picture"


async def test_fetches_at_once_are_bounded_per_host() -> None:
    async with site({"/": answer(b"picture")}) as running, fetcher(concurrency=8) as built:
        running.gate = asyncio.Event()
        source = ImageSource(f"http://pictures.example:{running.port}/", "here")
        fetches = [asyncio.create_task(fetch(built, source)) for _ in range(10)]
        await asyncio.sleep(0.1)
        running.gate.set()
        assert await asyncio.gather(*fetches) == [b"picture"] * 10
        assert running.most_open == 2


async def test_waiting_for_a_turn_is_not_in_the_hosts_time() -> None:
    stalls = {"/stall": answer(b"x", content_length="500"), "/": answer(b"picture")}
    async with site(stalls) as running, fetcher(concurrency=1, timeout_s=0.3) as built:
        base = f"http://pictures.example:{running.port}"
        slow = [
            asyncio.create_task(fetch(built, ImageSource(f"{base}/stall", "slow"))) for _ in "ab"
        ]
        await asyncio.sleep(0)
        assert await fetch(built, ImageSource(f"{base}/", "here")) == b"picture"
        assert all(
            isinstance(e, InvalidImage) for e in await asyncio.gather(*slow, return_exceptions=True)
        )

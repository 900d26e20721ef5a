"""The memory of pictures and of what answers repeat: within `--max-buffered-bytes`, whoever they
come from, and given back."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.gateway.images.pictures import data_url, drawn
from tests.processes import Service, serving
from tests.scripted import scripted
from tests.waiting import await_condition

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")

MIB = 1 << 20
BUDGET_MIB = 64
SLACK_MIB = 40
"""What connections, threads and the allocator may take beside the pictures."""


def memory_mib(service: Service, what: str) -> float:
    """`VmRSS`: what is resident now; `VmHWM`: the most there has been."""
    status = Path(f"/proc/{service.gateway.process.pid}/status").read_text()
    line = next(line for line in status.splitlines() if line.startswith(what))
    return int(line.split()[1]) / 1024


@contextlib.asynccontextmanager
async def picture_host(picture: bytes) -> AsyncIterator[str]:
    """A server on loopback that has one picture, under every path."""
    head = f"HTTP/1.1 200 OK\r\ncontent-length: {len(picture)}\r\nconnection: close\r\n\r\n"

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            await reader.readuntil(b"\r\n\r\n")
            writer.writelines([head.encode(), picture])
            await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()


def asking(*urls: str, **script: Any) -> dict[str, Any]:
    body = scripted(**script)
    text = {"type": "text", "text": body["messages"][0]["content"]}
    images = [{"type": "image_url", "image_url": {"url": url}} for url in urls]
    body["messages"][0]["content"] = [*images, text]
    return body


@pytest.fixture(scope="module")
def service() -> Iterator[Service]:
    budget = ("--max-buffered-bytes", str(BUDGET_MIB * MIB))
    with serving(gateway_flags=(*budget, "--allow-private-image-hosts")) as running:
        assert running.script(tokens=3).status_code == 200
        yield running


async def test_small_requests_for_large_pictures_stay_within_the_budget(service: Service) -> None:
    """Ten requests of 1 kB ask for six pictures of 5 MiB each."""
    picture = drawn("PNG", (1300, 1300), compress_level=0)
    before = memory_mib(service, "VmRSS")
    async with (
        picture_host(picture) as host,
        httpx.AsyncClient(base_url=service.url, timeout=60) as client,
    ):
        bodies = [asking(*(f"{host}/{n}" for n in range(6)), tokens=10, delay_s=0.02)] * 10
        posts = (client.post("/v1/chat/completions", json=body) for body in bodies)
        answers = await asyncio.gather(*posts)
    assert [answer.status_code for answer in answers] == [200] * 10
    assert memory_mib(service, "VmHWM") < before + BUDGET_MIB + SLACK_MIB
    await asyncio.to_thread(
        await_condition,
        lambda: memory_mib(service, "VmRSS") < before + SLACK_MIB,
        "the memory is given back",
        30,
    )


async def test_ten_large_bodies_wait_for_each_other(service: Service) -> None:
    """28 MB each, where there are 64 MiB for all."""
    picture = data_url(drawn("PNG", (2640, 2640), compress_level=0))
    assert len(picture) > 27_000_000
    before = memory_mib(service, "VmRSS")
    body = json.dumps(asking(picture, tokens=3)).encode()
    headers = {"content-type": "application/json"}
    async with httpx.AsyncClient(base_url=service.url, timeout=120) as client:
        posts = [
            client.post("/v1/chat/completions", content=body, headers=headers) for _ in range(10)
        ]
        answers = await asyncio.gather(*posts)
    assert [answer.status_code for answer in answers] == [200] * 10
    # The parser has the text of a body twice for a moment.
    assert memory_mib(service, "VmHWM") < before + BUDGET_MIB + SLACK_MIB + 30


async def test_short_questions_pass_the_large_bodies(service: Service) -> None:
    picture = data_url(drawn("PNG", (2640, 2640), compress_level=0))
    body = json.dumps(asking(picture, tokens=100, delay_s=0.01)).encode()
    headers = {"content-type": "application/json"}
    async with httpx.AsyncClient(base_url=service.url, timeout=120) as client:
        large = [
            asyncio.create_task(client.post("/v1/chat/completions", content=body, headers=headers))
            for _ in range(3)
        ]
        await asyncio.wait(large, return_when=asyncio.FIRST_COMPLETED)
        answer = await client.post("/v1/chat/completions", json=scripted(tokens=2))
        assert answer.status_code == 200
        assert not all(task.done() for task in large)
        assert [(await task).status_code for task in large] == [200] * 3


@pytest.mark.parametrize("stream", [True, False])
async def test_what_answers_repeat_stays_within_the_budget(service: Service, stream: bool) -> None:
    """Six at once of 14 MiB of instructions, which a stream repeats three times."""
    before = memory_mib(service, "VmRSS")
    script = json.dumps({"tokens": 3})
    instructions = "x" * 14 * MIB
    asked = {"input": f"script: {script}", "instructions": instructions, "stream": stream}
    body, headers = json.dumps(asked).encode(), {"content-type": "application/json"}
    async with httpx.AsyncClient(base_url=service.url, timeout=120) as client:
        posts = (client.post("/v1/responses", content=body, headers=headers) for _ in range(6))
        answers = await asyncio.gather(*posts)
    assert [answer.status_code for answer in answers] == [200] * 6
    assert {answer.text.count(instructions) for answer in answers} == {3 if stream else 1}
    assert memory_mib(service, "VmHWM") < before + BUDGET_MIB + SLACK_MIB


async def test_a_request_whose_repetitions_never_fit_is_refused(service: Service) -> None:
    async with httpx.AsyncClient(base_url=service.url, timeout=60) as client:
        asked = {"input": "script: {}", "instructions": "x" * 20 * MIB}
        answer = await client.post("/v1/responses", json=asked)
    assert answer.status_code == 413
    assert "--max-buffered-bytes" in answer.text


async def test_a_picture_whose_pixels_never_fit_is_refused_by_name(service: Service) -> None:
    many_pixels = data_url(drawn("PNG", (5000, 4000)))
    async with httpx.AsyncClient(base_url=service.url, timeout=60) as client:
        answer = await client.post("/v1/chat/completions", json=asking(many_pixels, tokens=1))
    assert answer.status_code == 413
    assert answer.json()["error"]["param"] == "messages[0].content[0].image_url.url"
    assert "--max-buffered-bytes" in answer.text


async def test_the_text_of_a_data_url_goes_when_its_bytes_are_there() -> None:
    """Held while its request runs: 15 MiB of picture, not the 20 MiB of base64 beside them."""
    body = asking(data_url(drawn("PNG", (2280, 2280), compress_level=0)), tokens=50, delay_s=0.1)
    with serving() as service:
        assert service.script(tokens=3).status_code == 200
        before = memory_mib(service, "VmRSS")
        async with httpx.AsyncClient(base_url=service.url, timeout=60) as client:
            streaming = client.stream("POST", "/v1/chat/completions", json=body | {"stream": True})
            async with streaming as answer:
                lines = answer.aiter_lines()
                await anext(lines)
                await asyncio.to_thread(
                    await_condition,
                    lambda: memory_mib(service, "VmRSS") < before + 30,
                    "the text is gone",
                    4,
                )

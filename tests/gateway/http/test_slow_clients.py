"""Clients that send drop by drop, too much, or no HTTP at all: cut off, and never in a slot."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from gateway.http.protocol import MAX_HEADER_BYTES
from tests.gateway.fake_dispatch import says
from tests.gateway.serving import gateway

HEAD = (
    b"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\n"
    b"content-type: application/json\r\ncontent-length: 100\r\n"
)


async def answer_to(data: bytes, **settings: float) -> bytes:
    """Send `data`, then nothing; return all that comes until the connection is cut."""
    async with gateway(says("Hi"), **settings) as running:
        reader, writer = await running.connect()
        writer.write(data)
        async with asyncio.timeout(5):
            received = b""
            with contextlib.suppress(ConnectionError):
                received = await reader.read(-1)
        writer.close()
        assert running.dispatch.tickets == []
    return received


@pytest.mark.parametrize("data", [b"", b"\r\n"])
async def test_a_silent_connection_is_cut(data: bytes) -> None:
    assert await answer_to(data, header_timeout=0.1) == b""


@pytest.mark.parametrize("data", [b"GE", HEAD[:40], HEAD])
async def test_slow_headers_are_cut(data: bytes) -> None:
    assert b" 408 " in await answer_to(data, header_timeout=0.1)


@pytest.mark.parametrize("body", [b"", b'{"messages"'])
async def test_a_slow_body_is_cut(body: bytes) -> None:
    answer = await answer_to(HEAD + b"\r\n" + body, body_timeout=0.1)
    assert b" 408 " in answer
    assert b'"detail"' in answer


async def test_a_keep_alive_connection_that_begins_a_request_and_stops_is_cut() -> None:
    data = b"GET /health HTTP/1.1\r\nhost: localhost\r\n\r\n"
    answer = await answer_to(data + b"GET /hea", header_timeout=0.1)
    assert b" 200 " in answer
    assert b" 408 " in answer


@pytest.mark.parametrize(
    "data",
    [
        HEAD + b"x: " + b"a" * 2 * MAX_HEADER_BYTES,
        HEAD + b"x: " + b"a" * 2 * MAX_HEADER_BYTES + b"\r\n\r\n",
        HEAD + b"".join(b"x-%d: y\r\n" % n for n in range(20_000)),
        b"GET /" + b"a" * 2 * MAX_HEADER_BYTES + b" HTTP/1.1\r\nhost: localhost\r\n\r\n",
    ],
    ids=["endless", "long", "many", "path"],
)
async def test_large_headers_are_refused(data: bytes) -> None:
    assert b" 431 " in await answer_to(data)


@pytest.mark.parametrize(
    "data", [b"\x16\x03\x01\x02\x00\x01", b"HELLO\r\n\r\n", b"GET / X\r\n\r\n"]
)
async def test_what_is_no_http_gets_the_one_error_body(data: bytes) -> None:
    answer = await answer_to(data)
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert b'"code":"invalid_request"' in answer


async def test_a_long_answer_is_not_cut_by_the_limits_on_requests() -> None:
    async with gateway(header_timeout=0.1, body_timeout=0.1) as running:
        asking = asyncio.create_task(running.chat())
        ticket = await running.dispatch.submitted()
        # Whoever comes later and says nothing is cut before: the limits have passed for both.
        reader, writer = await running.connect()
        await reader.read(-1)
        writer.close()
        says("Hi")(ticket)
        assert (await asking).status_code == 200


async def test_connections_beyond_the_limit_are_told_so() -> None:
    async with gateway(says("Hi"), max_connections=2) as running:
        held = [await running.connect() for _ in range(2)]
        reader, writer = await running.connect()
        answer = await reader.read(-1)
        assert answer.startswith(b"HTTP/1.1 429 ")
        assert b"\r\nretry-after: 1\r\n" in answer
        assert b"Service is at capacity" in answer
        for _, other in (*held, (reader, writer)):
            other.close()
            await other.wait_closed()
        assert (await running.chat()).status_code == 200


async def test_bodies_beyond_the_budget_are_refused_and_given_back() -> None:
    text = "x" * 15_000
    messages = [{"role": "user", "content": text}]
    async with gateway(max_body_bytes=20_000, max_buffered_bytes=30_000) as running:
        first = asyncio.create_task(running.chat(messages=messages))
        ticket = await running.dispatch.submitted()
        second = await running.chat(messages=messages)
        assert second.status_code == 429
        says("Hi")(ticket)
        assert (await first).status_code == 200
        third = asyncio.create_task(running.chat(messages=messages))
        says("Hi")(await running.dispatch.submitted(1))
        assert (await third).status_code == 200

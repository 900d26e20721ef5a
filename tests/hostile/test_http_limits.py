"""HTTP clients that look for what is not bounded: trailers, answers nobody reads, JSON bombs."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from collections.abc import AsyncIterator

import pytest

from gateway.http.body import MAX_JSON_MARKS, MAX_JSON_MEMBERS
from gateway.http.protocol import MAX_HEADER_BYTES
from tests.gateway.fake_dispatch import says
from tests.gateway.serving import Gateway, gateway

CHUNKED = (
    b"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\n"
    b"content-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n"
)
ONE_CHUNK = b"1\r\n{\r\n"


@contextlib.asynccontextmanager
async def reading_little(running: Gateway) -> AsyncIterator[socket.socket]:
    """A connection whose client takes in next to nothing by itself."""
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
    client.setblocking(False)
    await asyncio.get_running_loop().sock_connect(client, ("127.0.0.1", running.port))
    with client:
        yield client


async def is_cut(client: socket.socket, sent: bytes) -> bool:
    """Send on until the server has cut the connection; false when it never does."""
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(5):
            while True:
                await loop.sock_sendall(client, sent)
                await asyncio.sleep(0)
    except ConnectionError:
        return True
    except TimeoutError:
        return False


@pytest.mark.parametrize(
    ("begin", "more"),
    [
        (ONE_CHUNK + b"0\r\n", b"x-%d: y\r\n" * 500),
        (ONE_CHUNK + b"0\r\nx: ", b"y" * 5000),
        (ONE_CHUNK + b"5;", b"y" * 5000),
    ],
    ids=["many trailers", "an endless trailer", "an endless chunk extension"],
)
async def test_what_follows_the_headers_is_bounded_like_them(begin: bytes, more: bytes) -> None:
    async with gateway(says("Hi")) as running, reading_little(running) as client:
        await asyncio.get_running_loop().sock_sendall(client, CHUNKED + begin)
        assert await is_cut(client, more)
        assert running.dispatch.tickets == []
        assert (await running.chat()).status_code == 200


async def test_a_body_in_tiny_chunks_is_still_a_body() -> None:
    body = b'{"messages": [{"role": "user", "content": "%s"}]}' % (b"x" * 200_000)
    pieces = b"".join(b"1\r\n%c\r\n" % byte for byte in body)
    assert len(pieces) > MAX_HEADER_BYTES
    async with gateway(says("Hi")) as running:
        reader, writer = await running.connect()
        writer.write(CHUNKED + pieces + b"0\r\nx-check: 1\r\n\r\n")
        assert b" 200 " in await reader.readline()
        writer.close()


@pytest.mark.parametrize("cut_at", [-10, 30], ids=["in the body", "in the headers"])
async def test_the_end_of_a_refused_body_is_not_counted_as_the_next_request(cut_at: int) -> None:
    """A client may be answered before it has sent all, and go on with its next request."""
    content = b'{"messages": [{"role": "user", "content": "x"}]}'
    head = b"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-type: %s\r\n"
    length = b"content-length: %d\r\n\r\n"
    refused = head % b"text/plain" + length % 3_000_000 + b"x" * 3_000_000
    asked = head % b"application/json" + length % len(content) + content
    async with gateway(says("Hi")) as running:
        reader, writer = await running.connect()
        writer.write(refused + asked[:cut_at])
        assert b" 415 " in await reader.readline()
        await writer.drain()
        await running.client.get("/health")
        writer.write(asked[cut_at:])
        answers = await reader.readuntil(b"Hi")
        assert b"HTTP/1.1 200 " in answers
        writer.close()


async def test_a_client_that_asks_and_does_not_read_is_cut() -> None:
    """Requests in a row, whose answers fill every buffer on the way."""
    async with gateway(write_timeout=0.3) as running, reading_little(running) as client:
        ask = b"GET /openapi.json HTTP/1.1\r\nhost: localhost\r\n\r\n"
        assert await is_cut(client, ask * 20)
        assert (await running.client.get("/health")).status_code == 200


async def test_an_unread_answer_does_not_outlive_its_connection() -> None:
    """Closing in order waits until the client has read the rest: not for ever."""
    async with (
        gateway(says("x" * 8_000_000), write_timeout=0.3, idle_timeout=1) as running,
        reading_little(running) as client,
    ):
        body = b'{"messages": [{"role": "user", "content": "x"}]}'
        head = CHUNKED.replace(b"transfer-encoding: chunked", b"content-length: %d" % len(body))
        await asyncio.get_running_loop().sock_sendall(client, head + body)
        assert await is_cut(client, b"\r\n")


BOMBS = [
    b'{"messages": [{"role": "user", "content": "x"}], "prediction": {"a": [%s]}}' % (b"[]," * n)
    for n in (MAX_JSON_MARKS, 4_000_000)
] + [
    b"[" * 30_000_000,
    b'""' * 15_000_000,
    b'\\"' * 15_000_000 + b"[]," * MAX_JSON_MARKS,
    b"{%s}" % b",".join(b'"k%d":0' % n for n in range(MAX_JSON_MEMBERS + 1)),
]


@pytest.mark.parametrize(
    "bomb", BOMBS, ids=["small", "large", "deep", "quotes", "escapes", "members"]
)
async def test_json_that_would_take_seconds_to_parse_is_refused_unparsed(bomb: bytes) -> None:
    async with gateway(says("Hi")) as running:
        began = time.monotonic()
        refused = await running.client.post(
            "/v1/chat/completions", content=bomb, headers={"content-type": "application/json"}
        )
        assert time.monotonic() - began < 3
        assert refused.status_code == 400
        assert "values" in refused.json()["detail"]
        assert (await running.chat()).status_code == 200


async def test_a_long_text_is_no_bomb() -> None:
    text = "One, two, [three], {four}. " * 30_000
    async with gateway(says("Hi")) as running:
        response = await running.chat(messages=[{"role": "user", "content": text}])
        assert response.status_code == 200


async def test_a_long_conversation_with_calls_is_no_bomb() -> None:
    call = {
        "type": "function_call", "id": "fc_1", "call_id": "c", "name": "f", "status": "completed"
    }  # fmt: skip
    turns = [{**call, "call_id": f"c{n}", "arguments": '{"a": [1, 2]}'} for n in range(2048)]
    results = [
        {"type": "function_call_output", "call_id": turn["call_id"], "output": "{}"}
        for turn in turns
    ]
    async with gateway(says("Hi")) as running:
        response = await running.client.post("/v1/responses", json={"input": [*turns, *results]})
        assert response.status_code == 200, response.text


async def test_a_table_in_a_text_is_no_bomb() -> None:
    """Commas in a string are no values, however many they are."""
    table = '1,2,"[3]",{4}\n' * 100_000
    async with gateway(says("Hi")) as running:
        response = await running.chat(messages=[{"role": "user", "content": table}])
        assert response.status_code == 200

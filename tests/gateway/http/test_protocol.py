"""One connection, many requests: each gets its answer, whatever comes behind it."""

from __future__ import annotations

import ast
import asyncio
import contextlib
import inspect
import logging

import pytest
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from gateway.http import protocol
from gateway.http.parser import Head
from tests.gateway.fake_dispatch import accepted, delta, says
from tests.gateway.serving import Gateway, gateway

HEALTH = b"GET /health HTTP/1.1\r\nhost: localhost\r\n\r\n"
CHUNKED = (
    b"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\n"
    b"content-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n"
)
FEED = b"GET /v1/status/stream HTTP/1.1\r\nhost: localhost\r\ncontent-length: 9\r\n\r\n"
GARBAGE = b"\x16\x03\x01 no HTTP\r\n\r\n"
TIMEOUT_S = 60.0
"""For what comes as fast as this machine happens to be."""


def chat(stream: bool, version: bytes = b"1.1") -> bytes:
    body = b'{"messages": [{"role": "user", "content": "x"}], "stream": %s}'
    body %= b"true" if stream else b"false"
    return head(len(body), version) + body


def head(length: int, version: bytes = b"1.1") -> bytes:
    lines = b"POST /v1/chat/completions HTTP/%s\r\nhost: localhost\r\n"
    lines += b"content-type: application/json\r\ncontent-length: %d\r\n\r\n"
    return lines % (version, length)


async def read_all(reader: asyncio.StreamReader) -> bytes:
    async with asyncio.timeout(TIMEOUT_S):
        return await reader.read(-1)


async def body_timeout_passes(running: Gateway) -> None:
    """Wait until somebody who came later has been cut for his slow body."""
    reader, writer = await running.connect()
    writer.write(head(100))
    assert b" 408 " in await read_all(reader)
    writer.close()


def assert_whole(answer: bytes, stream: bool) -> None:
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert b"Hi" in answer
    assert (b"[DONE]" in answer) is stream


# What comes behind a request


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("behind", [GARBAGE, CHUNKED + b"no size\r\n"], ids=["garbage", "body"])
async def test_garbage_behind_a_request_waits_for_its_answer(
    stream: bool, behind: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    async with gateway() as running:
        reader, writer = await running.connect()
        writer.write(chat(stream) + behind)
        ticket = await running.dispatch.submitted()
        # Another connection's answer: the garbage has been read by then.
        await running.client.get("/health")
        writer.write(GARBAGE)
        says("H", "Hi")(ticket)
        answer, _, refusal = (await read_all(reader)).partition(b"HTTP/1.1 400 ")
        writer.close()
    assert_whole(answer, stream)
    assert b'"code":"invalid_request"' in refusal
    assert [record.message for record in caplog.records if record.levelno >= logging.ERROR] == []


async def test_garbage_behind_a_stream_that_has_begun_does_not_cut_it() -> None:
    async with gateway() as running:
        reader, writer = await running.connect()
        writer.write(chat(stream=True))
        ticket = await running.dispatch.submitted()
        ticket.tell(accepted(), delta("first"))
        await reader.readuntil(b"first")
        writer.write(GARBAGE)
        await running.client.get("/health")
        says("Hi")(ticket)
        rest = await read_all(reader)
        writer.close()
    assert b"[DONE]" in rest.partition(b"HTTP/1.1 400 ")[0]


async def test_a_quick_answer_and_a_bad_body_are_not_mixed(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The answer would come in the same turn of the loop as the refusal."""
    bad = (
        b"GET /health HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\nno size\r\n"
    )
    async with gateway() as running:
        reader, writer = await running.connect()
        writer.write(bad)
        answer = await read_all(reader)
        writer.close()
    assert answer.startswith(b"HTTP/1.1 400 ") and answer.count(b"HTTP/1.1") == 1
    assert [record.message for record in caplog.records if record.levelno >= logging.ERROR] == []


# Deadlines of bodies


async def test_a_body_behind_a_running_answer_has_its_time_afterwards() -> None:
    body = chat(stream=False).partition(b"\r\n\r\n")[2]
    async with gateway(body_timeout=0.1) as running:
        reader, writer = await running.connect()
        writer.write(chat(stream=True) + head(len(body)))
        ticket = await running.dispatch.submitted()
        await body_timeout_passes(running)
        writer.write(body)
        says("Hi")(ticket)
        says("Hi")(await running.dispatch.submitted(1))
        await reader.readuntil(b"[DONE]")
        assert b" 200 " in await reader.readuntil(b"Hi")
        writer.close()


async def test_a_body_that_nobody_reads_does_not_cut_the_answer() -> None:
    async with gateway(body_timeout=0.1) as running:
        reader, writer = await running.connect()
        writer.write(FEED)
        await reader.readuntil(b"event: history")
        await body_timeout_passes(running)
        await reader.readuntil(b"event: sample")
        writer.close()


async def test_the_rest_of_an_answered_body_does_not_hold_the_connection() -> None:
    async with gateway(body_timeout=0.1) as running:
        reader, writer = await running.connect()
        writer.write(FEED.replace(b"/v1/status/stream", b"/health"))
        answer = await read_all(reader)
        writer.close()
    assert answer.startswith(b"HTTP/1.1 200 ") and answer.count(b"HTTP/1.1") == 1


# Clients that say that they have said all


@pytest.mark.parametrize("stream", [True, False])
async def test_a_half_closed_client_gets_its_answer(stream: bool) -> None:
    async with gateway() as running:
        reader, writer = await running.connect()
        writer.write(chat(stream))
        ticket = await running.dispatch.submitted()
        writer.write_eof()
        # It is asked whether it is still there, as a client that has gone looks the same.
        assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        says("Hi")(ticket)
        answer = (await read_all(reader)).replace(b"HTTP/1.1 100 Continue\r\n\r\n", b"")
        writer.close()
    assert_whole(answer, stream)


async def test_a_stream_goes_on_to_a_client_that_half_closes_in_the_middle() -> None:
    async with gateway() as running:
        reader, writer = await running.connect()
        writer.write(chat(stream=True))
        ticket = await running.dispatch.submitted()
        ticket.tell(accepted(), delta("first"))
        await reader.readuntil(b"first")
        writer.write_eof()
        await reader.readuntil(b": keep-alive")
        says("Hi")(ticket)
        assert b"[DONE]" in await read_all(reader)
        writer.close()


async def test_a_quick_answer_to_a_half_closed_client_comes_alone() -> None:
    async with gateway() as running:
        reader, writer = await running.connect()
        writer.write(HEALTH + HEALTH)
        writer.write_eof()
        answer = await read_all(reader)
        writer.close()
    assert answer.count(b"HTTP/1.1 200 ") == answer.count(b"HTTP/1.1") == 2


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("version", [b"1.0", b"1.1"])
async def test_a_client_that_goes_after_all_is_noticed(stream: bool, version: bytes) -> None:
    async with gateway() as running:
        _, writer = await running.connect()
        writer.write(chat(stream, version))
        ticket = await running.dispatch.submitted()
        writer.close()
        async with asyncio.timeout(5):
            await ticket.cancelled.wait()


async def test_half_a_request_from_a_half_closed_client_is_over() -> None:
    async with gateway() as running:
        reader, writer = await running.connect()
        writer.write(head(100))
        writer.write_eof()
        assert await read_all(reader) == b""
        writer.close()
        assert running.dispatch.tickets == []


# Clients that offer another protocol first

OFFERS = {
    # As Java's own client does with every first request of a connection.
    "h2c": (b"connection: Upgrade, HTTP2-Settings\r\nupgrade: h2c\r\nhttp2-settings: AAEAAEAA\r\n"),
    "websocket": b"connection: upgrade\r\nupgrade: websocket\r\n",
}


def offering(request: bytes, offer: bytes) -> bytes:
    line, end, rest = request.partition(b"\r\n")
    return line + end + offer + rest


def in_chunks(request: bytes) -> bytes:
    body = request.partition(b"\r\n\r\n")[2]
    return CHUNKED + b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body)


@pytest.mark.parametrize("offer", OFFERS.values(), ids=OFFERS)
@pytest.mark.parametrize("chunked", [False, True], ids=["length", "chunks"])
@pytest.mark.parametrize("piece", [1, 1000], ids=["bytes", "whole"])
async def test_an_offer_of_another_protocol_is_answered_in_this_one(
    offer: bytes, chunked: bool, piece: int
) -> None:
    asked = chat(stream=False)
    request = offering(in_chunks(asked) if chunked else asked, offer)
    async with gateway(says("Hi")) as running:
        reader, writer = await running.connect()
        for start in range(0, len(request), piece):
            writer.write(request[start : start + piece])
            await asyncio.sleep(0)
        writer.write(offering(asked, offer) + HEALTH)
        writer.write_eof()
        answers = await read_all(reader)
        writer.close()
    assert answers.count(b"HTTP/1.1 200 ") == 3 and answers.count(b"Hi") == 2, answers


@pytest.mark.parametrize("offer", [b"", *OFFERS.values()], ids=["none", *OFFERS])
async def test_requests_by_the_thousand_and_one_that_closes(
    offer: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    """More of them, in one piece, than one may be long."""
    async with gateway() as running:
        reader, writer = await running.connect()
        last = HEALTH[:-2] + b"connection: close\r\n\r\n"
        writer.write(3000 * offering(HEALTH, offer) + offering(last, offer))
        answers = await read_all(reader)
        writer.close()
    assert answers.count(b"HTTP/1.1 200 ") == 3001
    assert not caplog.records


@pytest.mark.parametrize("target", [b"example.com:443", b"/health"])
async def test_it_is_no_proxy(target: bytes) -> None:
    async with gateway() as running:
        reader, writer = await running.connect()
        writer.write(b"CONNECT %s HTTP/1.1\r\nhost: localhost\r\n\r\n" % target)
        assert (await read_all(reader)).startswith(b"HTTP/1.1 400 ")
        writer.close()


# What it is built upon

PARSER_CALLBACKS = {
    "on_message_begin",
    "on_url",
    "on_header",
    "on_headers_complete",
    "on_body",
    "on_message_complete",
}
"""Documented by httptools."""


def test_little_of_uvicorn_is_relied_upon() -> None:
    """Its protocol has no public interface: each name used here may change with a release."""
    with contextlib.closing(asyncio.new_event_loop()) as loop:
        made = HttpToolsProtocol(Config(lambda scope: None), ServerState(), {}, loop)
    theirs = {*vars(made), *vars(HttpToolsProtocol)} - {*dir(asyncio.Protocol), *PARSER_CALLBACKS}
    nodes = list(ast.walk(ast.parse(inspect.getsource(protocol))))
    ours = {
        node.attr
        for node in nodes
        if isinstance(node, ast.Attribute) and ast.unparse(node.value) in ("self", "super()")
    }
    ours |= {node.name for node in nodes if isinstance(node, ast.FunctionDef)}
    told = inspect.getsource(HttpToolsProtocol)
    assert all(f"self.{name} = " in told for name in Head.__annotations__)
    assert ours & theirs == {
        "on_response_complete",
        "parser",
        "send_400_response",
        "shutdown",
        "timeout_keep_alive_handler",
    }

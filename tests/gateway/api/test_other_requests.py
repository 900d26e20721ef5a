"""What clients ask beside their questions: HEAD, OPTIONS, and paths of services there are not."""

from __future__ import annotations

import asyncio

import pytest

from tests.gateway.serving import gateway

LOOKED_AT = [
    "/v1/models",
    "/v1/models/org/fake",
    "/v1/models/none",
    "/v1/capabilities",
    "/v1/queue/stats",
    "/health",
    "/ready",
    "/metrics",
    "/",
    "/page/none",
    "/docs",
    "/openapi.json",
    "/nowhere",
]


@pytest.mark.parametrize("path", LOOKED_AT)
async def test_head_is_get_without_its_body(path: str) -> None:
    async with gateway() as running:
        got, head = await running.client.get(path), await running.client.head(path)
    assert (head.status_code, head.content) == (got.status_code, b"")
    for name in ("content-length", "content-type", "retry-after"):
        assert head.headers.get(name) == got.headers.get(name)


async def test_head_of_a_stream_is_its_beginning() -> None:
    """The connection is free for the next request at once."""
    async with gateway() as running:
        reader, writer = await running.connect()
        writer.write(b"HEAD /v1/status/stream HTTP/1.1\r\nhost: localhost\r\n\r\n")
        head = await reader.readuntil(b"\r\n\r\n")
        writer.write(b"GET /health HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")
        after = await asyncio.wait_for(reader.read(), 20)
        writer.close()
    assert head.startswith(b"HTTP/1.1 200 ") and b"text/event-stream" in head
    assert after.startswith(b"HTTP/1.1 200 ") and after.endswith(b'{"status":"ok"}')


async def test_a_preflight_is_told_the_flag() -> None:
    asks = {"origin": "https://page.example", "access-control-request-method": "POST"}
    async with gateway() as running:
        refused = await running.client.options("/v1/models", headers=asks)
        plain = await running.client.options("/v1/models")
    assert (refused.status_code, plain.status_code) == (405, 405)
    assert "--cors-origin" in refused.json()["error"]["message"]
    assert "--cors-origin" not in plain.json()["error"]["message"]


NO_SUCH_SERVICE = {
    "embeddings": "embeddings",
    "audio/speech": "audio",
    "audio/transcriptions": "audio",
    "images/generations": "pictures",
    "images/edits": "pictures",
    "moderations": "moderation",
    "files": "stored",
    "files/file-1/content": "stored",
    "batches": "batches",
    "rerank": "rank",
    "realtime": "realtime",
    "responses/resp_1": "stored",
    "responses/input_tokens": "count_tokens",
    "responses/compact": "shortened",
    "responses/resp_1/cancel": "stored",
    "chat/completions/chatcmpl-1": "stored",
    "messages/batches": "batches",
}


@pytest.mark.parametrize(("path", "word"), NO_SUCH_SERVICE.items(), ids=NO_SUCH_SERVICE)
async def test_services_that_there_are_not_say_so(path: str, word: str) -> None:
    """And not that the base URL may be wrong, which it is not."""
    async with gateway() as running:
        answer = await running.client.post(f"/v1/{path}")
    assert answer.status_code == 404
    error = answer.json()["error"]
    assert error["code"] == "not_found"
    assert word in error["message"] and "base URL" not in error["message"]


async def test_services_are_told_from_words_that_begin_alike() -> None:
    async with gateway() as running:
        answer = await running.client.get("/v1/filesystem")
    assert "base URL" in answer.json()["error"]["message"]

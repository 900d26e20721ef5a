"""Streams: their bytes, when their headers are sent, and how they break."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from typing import Any

import httpx
import pytest

from gateway.errors import ApiError, DeadlinePassed, NoWorker, QueueFull, WorkerFailed
from shared.messages import TokenLogprob, ToolCallDelta
from tests.gateway.fake_dispatch import FakeTicket, accepted, delta, done, says
from tests.gateway.serving import Gateway, gateway, question


def parsed(text: str) -> list[Any]:
    """The data of every event; `[DONE]` as it is. Checks the framing."""
    assert text.endswith("\n\n")
    events = [e for e in text[:-2].split("\n\n") if not e.startswith(":")]
    assert all(event.startswith("data: ") and "\n" not in event for event in events)
    data = [event[6:] for event in events]
    return [d if d == "[DONE]" else json.loads(d) for d in data]


async def test_chunks_have_openais_shape() -> None:
    async with gateway(says("Hel", "lo")) as running:
        response = await running.chat(stream=True, stream_options={"include_usage": True})
    assert response.headers["content-type"] == "text/event-stream; charset=utf-8"
    *chunks, end = parsed(response.text)
    assert end == "[DONE]"
    heads = [{k: c[k] for k in ("id", "object", "created", "model")} for c in chunks]
    assert all(head == heads[0] for head in heads)
    assert heads[0]["id"] == "chatcmpl-job0"
    assert heads[0]["object"] == "chat.completion.chunk"
    assert [c["choices"] for c in chunks] == [
        [choice({"role": "assistant", "content": "", "refusal": None})],
        [choice({"content": "Hel"})],
        [choice({"content": "lo"})],
        [choice({}, finish_reason="stop")],
        [],
    ]
    assert [c["usage"] and c["usage"]["total_tokens"] for c in chunks] == [None] * 4 + [9]
    assert chunks[-1]["timings"]["prefill_s"] == 0.25


def choice(delta_content: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return {"index": 0, "delta": delta_content, "logprobs": None, "finish_reason": None} | fields


async def test_usage_comes_only_when_asked_for() -> None:
    async with gateway(says("Hi")) as running:
        *chunks, end = parsed((await running.chat(stream=True)).text)
    assert end == "[DONE]"
    assert all("usage" not in chunk and chunk["choices"] for chunk in chunks)


async def test_every_choice_opens_and_ends_once() -> None:
    def script(ticket: FakeTicket) -> None:
        ticket.tell(accepted(), delta("a", 0), delta("b", 1))
        ticket.tell(delta("", 0, finish_reason="length"), delta("", 1, finish_reason="stop"))
        ticket.tell(done())

    async with gateway(script) as running:
        *chunks, _ = parsed((await running.chat(stream=True, n=2)).text)
    choices = [chunk["choices"][0] for chunk in chunks]
    for index, reason in ((0, "length"), (1, "stop")):
        own = [c for c in choices if c["index"] == index]
        assert own[0]["delta"]["role"] == "assistant"
        assert [c["finish_reason"] for c in own] == [None, None, reason]


async def test_tool_calls_reasoning_and_logprobs_stream() -> None:
    logprob = TokenLogprob("x", [120], -0.5)

    def script(ticket: FakeTicket) -> None:
        ticket.tell(accepted(), delta(reasoning="Hm."), delta("", logprobs=[logprob]))
        ticket.tell(delta(tool_calls=[ToolCallDelta(0, "", "call_1", "find")]))
        ticket.tell(delta(tool_calls=[ToolCallDelta(0, "{}")], finish_reason="tool_calls"))
        ticket.tell(done())

    tools = [{"type": "function", "function": {"name": "find"}}]
    async with gateway(script) as running:
        response = await running.chat(stream=True, logprobs=True, tools=tools)
    choices = [chunk["choices"][0] for chunk in parsed(response.text)[1:-1]]
    assert choices[0]["delta"] == {"reasoning_content": "Hm."}
    assert choices[1]["delta"] == {"content": ""}
    assert choices[1]["logprobs"]["content"][0]["token"] == "x"
    call = {"index": 0, "id": "call_1", "type": "function"}
    function = {"name": "find", "arguments": ""}
    assert choices[2]["delta"] == {"tool_calls": [call | {"function": function}]}
    assert choices[3]["delta"] == {"tool_calls": [{"index": 0, "function": {"arguments": "{}"}}]}
    assert choices[4]["finish_reason"] == "tool_calls"


async def test_odd_texts_survive() -> None:
    pieces = ('"\\\n\r\t', "\u2028\u2029\x00\x7f", "😀é漢", "data: [DONE]\n\n")
    async with gateway(says(*pieces)) as running:
        chunks = parsed((await running.chat(stream=True)).text)[1:-2]
    assert "".join(c["choices"][0]["delta"]["content"] for c in chunks) == "".join(pieces)


@pytest.mark.parametrize(
    "error",
    [
        QueueFull(retry_after_s=2.5),
        NoWorker("none", retry_after_s=1),
        DeadlinePassed("late"),
        WorkerFailed("broken"),
    ],
    ids=lambda error: error.code,
)
@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("when", ["reserve", "submitted", "accepted"])
async def test_an_error_before_the_first_token_is_a_status(
    error: ApiError, stream: bool, when: str
) -> None:
    def script(ticket: FakeTicket) -> None:
        if when == "accepted":
            ticket.tell(accepted())
        ticket.fail(error)

    async with gateway(script) as running:
        if when == "reserve":
            running.dispatch.refusal = error
        response = await running.chat(stream=stream)
        assert all(ticket.cancelled.is_set() for ticket in running.dispatch.tickets)
    assert response.status_code == error.status
    assert response.json()["error"]["code"] == error.code
    assert response.json()["detail"] == error.message
    assert response.headers.get("retry-after") == error.headers.get("Retry-After")


async def test_a_later_error_is_an_event_and_the_answer_never_looks_whole() -> None:
    def script(ticket: FakeTicket) -> None:
        ticket.tell(accepted(), delta("Once"))
        ticket.fail(WorkerFailed("Two workers failed."))

    async with gateway(script) as running:
        response = await running.chat(stream=True)
        assert running.dispatch.tickets[0].cancelled.is_set()
    *chunks, last = parsed(response.text)
    assert last == {
        "error": {
            "message": "Two workers failed.",
            "type": "server_error",
            "param": None,
            "code": "worker_failed",
        }
    }
    assert "[DONE]" not in response.text
    assert all(chunk["choices"][0]["finish_reason"] is None for chunk in chunks)


async def test_headers_are_sent_a_second_after_a_worker_accepted() -> None:
    async with gateway(lambda ticket: ticket.tell(accepted())) as running:
        began = time.monotonic()
        async with running.client.stream(
            "POST", "/v1/chat/completions", json=question(stream=True)
        ) as response:
            assert response.status_code == 200
            assert 0.9 < time.monotonic() - began < 3
            lines = response.aiter_lines()
            assert '"role":"assistant"' in await anext(lines)
            running.dispatch.tickets[0].tell(delta("Hi", finish_reason="stop"), done())
            rest = [line async for line in lines]
    assert rest[-2] == "data: [DONE]"


async def test_silence_is_filled_with_comments() -> None:
    async with (
        gateway(lambda t: t.tell(accepted(), delta("a")), keep_alive_interval=0.05) as running,
        running.client.stream(
            "POST", "/v1/chat/completions", json=question(stream=True)
        ) as response,
    ):
        lines = response.aiter_lines()
        comments = 0
        async for line in lines:
            comments += line == ": keep-alive"
            if comments == 3:
                break
        running.dispatch.tickets[0].tell(delta("b", finish_reason="stop"), done())
        rest = [line async for line in lines]
    assert rest[-2] == "data: [DONE]"


async def test_a_reader_that_stops_is_cut_off_and_its_job_cancelled() -> None:
    async with gateway(write_timeout=0.2) as running:
        reader, writer = await running.connect()
        await send_question(running, writer)
        ticket = await running.dispatch.submitted()
        ticket.tell(accepted())
        piece = "x" * 1000
        async with asyncio.timeout(10):
            while not ticket.cancelled.is_set():
                ticket.tell(*[delta(piece)] * 200)
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(ticket.cancelled.wait(), 0.01)
        received = b""
        with contextlib.suppress(ConnectionError):
            received = await reader.read(-1)
        assert b"[DONE]" not in received
        writer.close()


async def send_question(running: Gateway, writer: asyncio.StreamWriter) -> None:
    body = json.dumps(question(stream=True)).encode()
    head = (
        f"POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1\r\n"
        f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    )
    writer.write(head.encode() + body)
    await writer.drain()


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("state", ["queued", "accepted", "answering"])
async def test_a_client_that_leaves_has_its_job_cancelled(stream: bool, state: str) -> None:
    async with gateway() as running:
        asking = asyncio.create_task(running.chat(stream=stream))
        ticket = await running.dispatch.submitted()
        if state != "queued":
            ticket.tell(accepted())
        if state == "answering":
            ticket.tell(delta("a"))
        await asyncio.sleep(0)
        assert not ticket.cancelled.is_set()
        asking.cancel()
        async with asyncio.timeout(2):
            await ticket.cancelled.wait()
        with pytest.raises(asyncio.CancelledError):
            await asking


async def test_a_fault_of_ours_is_a_500_with_the_request_id() -> None:
    def script(ticket: FakeTicket) -> None:
        raise RuntimeError("secret detail")

    async with gateway(script) as running:
        for stream in (False, True):
            response = await running.client.post(
                "/v1/chat/completions",
                json=question(stream=stream),
                headers={"X-Request-ID": "mine-1"},
            )
            assert response.status_code == 500
            assert "mine-1" in response.json()["detail"]
            assert "secret" not in response.text
            assert response.headers["x-request-id"] == "mine-1"
        assert all(ticket.cancelled.is_set() for ticket in running.dispatch.tickets)


async def test_many_streams_at_once_do_not_mix() -> None:
    def script(ticket: FakeTicket) -> None:
        text = ticket.request.messages[0].content[0]
        says(*str(getattr(text, "text", "")))(ticket)

    async def ask(running: Gateway, word: str) -> str:
        messages = [{"role": "user", "content": word}]
        response: httpx.Response = await running.chat(stream=True, messages=messages)
        chunks = parsed(response.text)[1:-2]
        return "".join(chunk["choices"][0]["delta"]["content"] for chunk in chunks)

    words = [f"word-{number}" for number in range(50)]
    async with gateway(script) as running:
        assert await asyncio.gather(*(ask(running, word) for word in words)) == words


@pytest.mark.parametrize("stream", [False, True])
async def test_a_stopping_server_tells_those_it_does_not_wait_for(stream: bool) -> None:
    async with httpx.AsyncClient(timeout=5, trust_env=False) as client:
        async with gateway(lambda t: t.tell(accepted(), delta("a"))) as running:
            url = f"{running.url}/v1/chat/completions"
            asking = asyncio.create_task(client.post(url, json=question(stream=stream)))
            ticket = await running.dispatch.submitted()
        response = await asking
    assert ticket.cancelled.is_set()
    assert "being stopped" in response.text
    assert response.status_code in ((200, 503) if stream else (503,))
    assert "[DONE]" not in response.text

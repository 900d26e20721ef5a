"""Anthropic's dialect: its bytes, its own Python client, and what is refused."""

from __future__ import annotations

import asyncio
import json
from typing import Any, get_type_hints

import anthropic
import msgspec
import pytest
from anthropic import AsyncAnthropic
from anthropic.types import MessageCountTokensParams, message_create_params

from gateway.api.messages.models import CountTokensRequest, MessagesRequest
from gateway.errors import InvalidRequest, QueueFull, WorkerFailed
from shared.messages import ImagePart, TextPart, ToolCallDelta
from tests.gateway.fake_dispatch import FakeTicket, accepted, delta, done, says
from tests.gateway.images.pictures import data_url, drawn
from tests.gateway.serving import Gateway, gateway

PATH = "/v1/messages"
TOOL = {"name": "find", "input_schema": {"type": "object"}}
USER = {"role": "user", "content": "Hi"}
CALL = {"type": "tool_use", "id": "c1", "name": "find", "input": {"a": 1}}


def asked(**fields: Any) -> dict[str, Any]:
    return {"max_tokens": 50, "messages": [USER], **fields}


def client(running: Gateway) -> AsyncAnthropic:
    return AsyncAnthropic(base_url=running.url, api_key="any", max_retries=0)


def calls_a_tool(ticket: FakeTicket) -> None:
    ticket.tell(accepted(), delta(reasoning="Hm."), delta("Let me look."))
    ticket.tell(delta(tool_calls=[ToolCallDelta(0, "", "c1", "find")]))
    ticket.tell(delta(tool_calls=[ToolCallDelta(0, '{"a":1}')], finish_reason="tool_calls"))
    ticket.tell(done(cached_tokens=3))


async def test_a_message_has_anthropics_shape() -> None:
    async with gateway(calls_a_tool) as running:
        body = (await running.client.post(PATH, json=asked(tools=[TOOL], model="m"))).json()
    assert body.pop("timings")
    assert body == {
        "id": "msg_job0",
        "type": "message",
        "role": "assistant",
        "model": "m",
        "content": [
            {"type": "thinking", "thinking": "Hm.", "signature": ""},
            {"type": "text", "text": "Let me look."},
            CALL,
        ],
        "stop_reason": "tool_use",
        "stop_sequence": None,
        "usage": {
            "input_tokens": 4,
            "cache_read_input_tokens": 3,
            "cache_creation_input_tokens": 0,
            "output_tokens": 2,
        },
    }


async def test_a_stream_is_framed_in_blocks() -> None:
    async with gateway(calls_a_tool) as running:
        response = await running.client.post(PATH, json=asked(tools=[TOOL], stream=True))
    events = [event.split("\n") for event in response.text.strip().split("\n\n")]
    datas = [json.loads(data.removeprefix("data: ")) for _, data in events]
    assert [name.removeprefix("event: ") for name, _ in events] == [d["type"] for d in datas]
    assert [(d["type"], d.get("index")) for d in datas] == [
        ("message_start", None),
        ("content_block_start", 0),
        ("content_block_delta", 0),
        ("content_block_stop", 0),
        ("content_block_start", 1),
        ("content_block_delta", 1),
        ("content_block_stop", 1),
        ("content_block_start", 2),
        ("content_block_delta", 2),
        ("content_block_stop", 2),
        ("message_delta", None),
        ("message_stop", None),
    ]
    assert datas[0]["message"]["usage"]["input_tokens"] == 7
    assert datas[7]["content_block"] == CALL | {"input": {}}
    assert datas[8]["delta"] == {"type": "input_json_delta", "partial_json": '{"a":1}'}
    assert datas[10]["delta"]["stop_reason"] == "tool_use"


async def test_an_empty_answer_is_an_empty_text() -> None:
    def script(ticket: FakeTicket) -> None:
        ticket.tell(accepted(), delta("", finish_reason="length"), done())

    async with gateway(script) as running:
        body = (await running.client.post(PATH, json=asked())).json()
    assert [block["text"] for block in body["content"]] == [""]
    assert body["stop_reason"] == "max_tokens"


@pytest.mark.parametrize(
    ("finish_reason", "stop", "stop_reason", "stop_sequence"),
    [
        ("stop", "END", "stop_sequence", "END"),
        ("stop", None, "end_turn", None),
        ("tool_calls", "END", "tool_use", None),
        ("length", None, "max_tokens", None),
    ],
)
async def test_the_stop_sequence_that_ended_the_answer_is_named(
    finish_reason: Any, stop: str | None, stop_reason: str, stop_sequence: str | None
) -> None:
    def script(ticket: FakeTicket) -> None:
        last = msgspec.structs.replace(done(), stops=[stop] if stop else [])
        ticket.tell(accepted(), delta("Once", finish_reason=finish_reason), last)

    async with gateway(script) as running, client(running) as api:
        request: Any = {"model": "m", "max_tokens": 9, "messages": [USER]}
        complete = await api.messages.create(**request, stop_sequences=["END"])
        async with api.messages.stream(**request, stop_sequences=["END"]) as stream:
            streamed = await stream.get_final_message()
    for message in (complete, streamed):
        assert (message.stop_reason, message.stop_sequence) == (stop_reason, stop_sequence)


async def test_anthropics_client_asks_streams_and_counts() -> None:
    async with gateway(says("Hel", "lo")) as running, client(running) as api:
        messages: Any = [USER]
        complete = await api.messages.create(model="m", max_tokens=9, messages=messages)
        assert complete.content[0].type == "text" and complete.content[0].text == "Hello"
        async with api.messages.stream(model="m", max_tokens=9, messages=messages) as stream:
            assert "".join([text async for text in stream.text_stream]) == "Hello"
            final = await stream.get_final_message()
        assert final.stop_reason == "end_turn"
        assert final.usage.output_tokens == 2
        counted = await api.messages.count_tokens(model="m", messages=messages)
        assert counted.input_tokens == 7
        assert [t.only_counts for t in running.dispatch.tickets] == [False, False, True]
        assert all(ticket.cancelled.is_set() for ticket in running.dispatch.tickets)
        running.dispatch.script = calls_a_tool
        tools: Any = [TOOL]
        called = await api.messages.create(model="m", max_tokens=9, messages=messages, tools=tools)
        assert called.content[-1].type == "tool_use" and called.content[-1].input == {"a": 1}


async def test_errors_arrive_as_the_clients_own() -> None:
    async with gateway(says("x"), api_key=("right-key",)) as running, client(running) as api:
        ask = api.messages.create
        with pytest.raises(anthropic.AuthenticationError):
            await ask(model="m", max_tokens=9, messages=[])
        api.api_key = "right-key"
        with pytest.raises(anthropic.BadRequestError) as caught:
            await ask(model="m", max_tokens=9, messages=[])
        assert caught.value.type == "invalid_request_error"
        messages: Any = [USER]
        running.dispatch.refusal = QueueFull(retry_after_s=1)
        with pytest.raises(anthropic.RateLimitError):
            await ask(model="m", max_tokens=9, messages=messages)
        running.dispatch.refusal = None

        def breaks(ticket: FakeTicket) -> None:
            ticket.tell(accepted(), delta("Once"))
            ticket.fail(WorkerFailed("broken"))

        running.dispatch.script = breaks
        with pytest.raises(anthropic.APIStatusError, match="broken"):
            async with api.messages.stream(model="m", max_tokens=9, messages=messages) as stream:
                [text async for text in stream.text_stream]


@pytest.mark.parametrize("path", [PATH, f"{PATH}/count_tokens"])
async def test_what_a_worker_finds_wrong_is_named_as_the_client_does(path: str) -> None:
    def refuses(ticket: FakeTicket) -> None:
        ticket.fail(InvalidRequest("No.", param="response_format"))

    async with gateway(refuses) as running:
        body = {"messages": [USER]} | ({"max_tokens": 5} if path == PATH else {})
        response = await running.client.post(path, json=body)
    assert response.status_code == 400
    assert response.json()["error"]["param"] == "output_config.format"


async def test_counting_ends_when_its_client_leaves() -> None:
    async with gateway() as running:
        counting = asyncio.create_task(
            running.client.post(f"{PATH}/count_tokens", json={"messages": [USER]})
        )
        ticket = await running.dispatch.submitted()
        counting.cancel()
        async with asyncio.timeout(2):
            await ticket.cancelled.wait()


async def test_the_job_carries_what_was_asked() -> None:
    picture = drawn("PNG")
    base64_data = data_url(picture).partition(",")[2]
    source = {"type": "base64", "media_type": "image/png", "data": base64_data}
    result = {
        "type": "tool_result",
        "tool_use_id": "c1",
        "content": [{"type": "text", "text": "Seen."}, {"type": "image", "source": source}],
    }
    async with gateway(says("x")) as running:
        response = await running.client.post(
            PATH,
            json=asked(
                system=[{"type": "text", "text": "Be brief.", "cache_control": {}}],
                messages=[
                    USER,
                    {"role": "assistant", "content": [CALL]},
                    {"role": "user", "content": [result, {"type": "text", "text": "So?"}]},
                ],
                tools=[TOOL],
                tool_choice={"type": "any", "disable_parallel_tool_use": True},
                stop_sequences=["x"] * 5,
                temperature=0.3,
                top_k=3,
                thinking={"type": "enabled", "budget_tokens": 2000},
            ),
        )
        ticket = running.dispatch.tickets[0]
    assert response.status_code == 200
    job = ticket.job
    assert job is not None
    assert [turn.role for turn in job.messages] == ["system", "user", "assistant", "tool", "user"]
    assert job.messages[3].content == [TextPart(text="Seen.")]
    assert job.messages[4].content == [ImagePart(index=0), TextPart(text="So?")]
    assert list(ticket.images) == [picture]
    assert job.tool_policy is not None
    assert (job.tool_policy.mode, job.tool_policy.parallel) == ("required", False)
    assert job.template_options == {"enable_thinking": True}
    assert (job.max_tokens, len(job.stop), job.sampling.top_k) == (50, 5, 3)


def edits(*wanted: Any) -> dict[str, Any]:
    return {"context_management": {"edits": list(wanted)}}


@pytest.mark.parametrize("keep", ["all", {"type": "all"}])
async def test_what_claude_code_says_of_old_thoughts_is_what_happens_anyway(keep: Any) -> None:
    fields = edits({"type": "clear_thinking_20251015", "keep": keep})
    async with gateway(says("x")) as running:
        response = await running.client.post(
            f"{PATH}?beta=true", json=asked(**fields, mcp_servers=[], thinking={"type": "adaptive"})
        )
    assert response.status_code == 200


def test_every_field_of_the_specification_is_decided() -> None:
    specified = set(get_type_hints(message_create_params.MessageCreateParamsNonStreaming))
    counted = set(get_type_hints(MessageCountTokensParams))
    assert specified <= set(MessagesRequest.model_fields)
    assert counted <= set(CountTokensRequest.model_fields)


def content(*blocks: Any, role: str = "user") -> dict[str, Any]:
    return {"messages": [{"role": role, "content": list(blocks)}]}


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"max_tokens": None}, "max_tokens"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "robot", "content": "x"}]}, "messages[0].role"),
        ({"messages": [{"role": "user", "content": ""}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": []}]}, "messages[0].content"),
        ({"messages": [USER, {"role": "assistant", "content": ""}]}, "messages[1].content"),
        (content({"type": "document"}), "messages[0].content[0].source"),
        (content({"type": "search_result"}), "messages[0].content[0].type"),
        (content({"type": "image"}), "messages[0].content[0].source"),
        (
            content({"type": "image", "source": {"type": "file", "file_id": "f"}}),
            "messages[0].content[0].source.type",
        ),
        (
            content({"type": "image", "source": {"type": "url", "url": "file:///etc/passwd"}}),
            "messages[0].content[0].source.url",
        ),
        (
            content({"type": "tool_result", "tool_use_id": "c9"}),
            "messages[0].content[0].tool_use_id",
        ),
        ({"messages": [USER, {"role": "assistant", "content": [CALL]}]}, "messages[1].content"),
        ({"system": 3}, "system"),
        ({"tools": [{"type": "web_search_20250305", "name": "w"}]}, "tools[0].type"),
        ({"tools": [{"name": "w"}]}, "tools[0].input_schema"),
        ({"tools": [3]}, "tools[0]"),
        (edits({"type": "clear_thinking_20251015"}), "context_management.edits[0].keep"),
        (
            edits({"type": "clear_thinking_20251015", "keep": {"type": "thinking_turns"}}),
            "context_management.edits[0].keep",
        ),
        (edits({"type": "clear_tool_uses_20250919"}), "context_management.edits[0].type"),
        ({"mcp_servers": [{"type": "url"}]}, "mcp_servers"),
        ({"tool_choice": {"type": "any"}}, "tool_choice"),
        ({"tools": [TOOL], "tool_choice": {"type": "tool"}}, "tool_choice.name"),
        (
            {"tools": [TOOL], "tool_choice": {"type": "tool", "name": "no"}},
            "tool_choice.name",
        ),
        ({"container": "c"}, "container"),
        ({"banana": 1}, "banana"),
        ({"stop_sequences": [""]}, "stop_sequences[0]"),
        ({"temperature": 3}, "temperature"),
        ({"top_logprobs": 3}, "top_logprobs"),
    ],
    ids=str,
)
async def test_wrong_requests_are_refused_by_name(fields: dict[str, Any], param: str) -> None:
    async with gateway(says("x")) as running:
        response = await running.client.post(PATH, json=asked(**fields))
        assert running.dispatch.tickets == []
    assert response.status_code == 400
    body = response.json()
    assert body["type"] == "error"
    assert body["error"]["param"] == param
    assert body["error"]["type"] == "invalid_request_error"


async def test_a_bad_picture_is_named() -> None:
    source = {"type": "base64", "media_type": "image/png", "data": "AAAA"}
    async with gateway(says("x")) as running:
        fields = content({"type": "image", "source": source})
        response = await running.client.post(PATH, json=asked(**fields))
    assert response.json()["error"]["param"] == "messages[0].content[0].source.data"

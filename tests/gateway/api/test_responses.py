"""OpenAI's responses: their bytes, its own client, and what is refused."""

from __future__ import annotations

import json
from typing import Any, get_type_hints

import openai
import pytest
from openai import AsyncOpenAI
from openai.types.responses import response_create_params
from pydantic import BaseModel

from gateway.api.responses.models import ResponsesRequest
from gateway.errors import InvalidRequest, WorkerFailed
from shared.messages import ImagePart, TextPart, TokenLogprob, ToolCallDelta
from tests.gateway.fake_dispatch import FakeTicket, accepted, delta, done, says
from tests.gateway.images.pictures import data_url, drawn
from tests.gateway.serving import Gateway, gateway

PATH = "/v1/responses"
TOOL = {"type": "function", "name": "find", "parameters": {"type": "object"}, "strict": True}
CALL = {"type": "function_call", "call_id": "c1", "name": "find", "arguments": "{}"}
OUTPUT = {"type": "function_call_output", "call_id": "c1", "output": "found"}
USER = {"role": "user", "content": "Hi"}


def client(running: Gateway) -> AsyncOpenAI:
    return AsyncOpenAI(base_url=f"{running.url}/v1", api_key="any", max_retries=0)


def calls_a_tool(ticket: FakeTicket) -> None:
    ticket.tell(accepted(), delta(reasoning="Hm."), delta("Let me look."))
    ticket.tell(delta(tool_calls=[ToolCallDelta(0, "", "c1", "find")]))
    ticket.tell(delta(tool_calls=[ToolCallDelta(0, '{"a":1}')], finish_reason="tool_calls"))
    ticket.tell(done(reasoning_tokens=1))


def test_every_field_of_the_specification_is_decided() -> None:
    specified = set(get_type_hints(response_create_params.ResponseCreateParamsNonStreaming))
    sampling = {"top_k", "min_p", "repetition_penalty", "presence_penalty", "frequency_penalty"}
    others = {"logit_bias", "seed", "ignore_eos", "enable_thinking", "chat_template_kwargs", "ttl"}
    others |= {"min_pixels", "max_pixels", "mm_processor_kwargs"}
    of_codex = {"client_metadata"}
    assert set(ResponsesRequest.model_fields) == specified | sampling | others | of_codex


async def test_a_response_has_openais_shape() -> None:
    async with gateway(calls_a_tool) as running:
        asked = {"input": "Hi", "tools": [TOOL], "model": "m", "metadata": {"a": "b"}}
        body = (await running.client.post(PATH, json=asked)).json()
    assert body["id"] == "resp_job0"
    assert (body["object"], body["status"], body["model"]) == ("response", "completed", "m")
    assert body["metadata"] == {"a": "b"}
    assert body["tools"] == [TOOL]
    assert body["output"] == [
        {
            "id": "rs_job0_0",
            "type": "reasoning",
            "status": "completed",
            "summary": [],
            "content": [{"type": "reasoning_text", "text": "Hm."}],
        },
        {
            "id": "msg_job0_1",
            "type": "message",
            "role": "assistant",
            "status": "completed",
            "content": [
                {
                    "type": "output_text",
                    "text": "Let me look.",
                    "annotations": [],
                    "logprobs": [],
                }
            ],
        },
        {
            "id": "fc_job0_2",
            "type": "function_call",
            "status": "completed",
            "call_id": "c1",
            "name": "find",
            "arguments": '{"a":1}',
        },
    ]
    assert body["usage"]["output_tokens_details"] == {"reasoning_tokens": 1}


async def test_a_stream_builds_the_response_up() -> None:
    async with gateway(calls_a_tool) as running:
        asked = {"input": "Hi", "tools": [TOOL], "stream": True}
        text = (await running.client.post(PATH, json=asked)).text
    events = [event.split("\n") for event in text.strip().split("\n\n")]
    datas = [json.loads(data.removeprefix("data: ")) for _, data in events]
    assert [name.removeprefix("event: ") for name, _ in events] == [d["type"] for d in datas]
    assert [d["sequence_number"] for d in datas] == list(range(len(datas)))
    assert [d["type"].removeprefix("response.") for d in datas] == [
        "created",
        "in_progress",
        "output_item.added",
        "content_part.added",
        "reasoning_text.delta",
        "reasoning_text.done",
        "content_part.done",
        "output_item.done",
        "output_item.added",
        "content_part.added",
        "output_text.delta",
        "output_text.done",
        "content_part.done",
        "output_item.done",
        "output_item.added",
        "function_call_arguments.delta",
        "function_call_arguments.done",
        "output_item.done",
        "completed",
    ]
    done_items = [d["item"] for d in datas if d["type"] == "response.output_item.done"]
    assert datas[-1]["response"]["output"] == done_items


async def test_a_cut_answer_is_incomplete() -> None:
    def script(ticket: FakeTicket) -> None:
        ticket.tell(accepted(), delta("Once", finish_reason="length"), done())

    async with gateway(script) as running:
        body = (await running.client.post(PATH, json={"input": "Hi"})).json()
        text = (await running.client.post(PATH, json={"input": "Hi", "stream": True})).text
    assert body["status"] == "incomplete"
    assert body["incomplete_details"] == {"reason": "max_output_tokens"}
    assert "event: response.incomplete\n" in text
    assert "response.completed" not in text


@pytest.mark.parametrize("in_one_step", [True, False])
async def test_only_the_item_that_was_cut_is_incomplete(in_one_step: bool) -> None:
    """What the stream said of an item stands in the whole as well."""

    def script(ticket: FakeTicket) -> None:
        if in_one_step:
            ticket.tell(accepted(), delta("Once", reasoning="Hm.", finish_reason="length"), done())
        else:
            cut = delta("Once", finish_reason="length")
            ticket.tell(accepted(), delta(reasoning="Hm."), cut, done())

    async with gateway(script) as running:
        body = (await running.client.post(PATH, json={"input": "Hi"})).json()
        text = (await running.client.post(PATH, json={"input": "Hi", "stream": True})).text
    datas = [json.loads(line[6:]) for line in text.splitlines() if line.startswith("data: ")]
    told = [data["item"] for data in datas if data["type"] == "response.output_item.done"]
    for output in (body["output"], told, datas[-1]["response"]["output"]):
        assert [(item["type"], item["status"]) for item in output] == [
            ("reasoning", "completed"),
            ("message", "incomplete"),
        ]


async def test_openais_client_asks_streams_and_parses() -> None:
    class Scene(BaseModel):
        colour: str

    async with gateway(says("Hel", "lo")) as running, client(running) as api:
        complete = await api.responses.create(model="m", input="Hi")
        assert complete.output_text == "Hello"
        async with api.responses.stream(model="m", input="Hi") as stream:
            kinds = [event.type async for event in stream]
            final = await stream.get_final_response()
        assert kinds.count("response.output_text.delta") == 2
        assert final.output_text == "Hello"
        running.dispatch.script = says('{"colour":"red"}')
        parsed = await api.responses.parse(model="m", input="Hi", text_format=Scene)
        assert parsed.output_parsed == Scene(colour="red")
        running.dispatch.script = calls_a_tool
        tools: Any = [TOOL]
        called = await api.responses.create(model="m", input="Hi", tools=tools)
        items: Any = [USER, *called.output, OUTPUT]
        running.dispatch.script = says("Found.")
        assert (await api.responses.create(model="m", input=items)).output_text == "Found."


@pytest.mark.parametrize(
    ("param", "shown"),
    [("messages", "input"), ("response_format", "text.format"), ("tools", "tools"), (None, None)],
)
async def test_what_a_worker_finds_wrong_is_named_as_the_client_does(
    param: str | None, shown: str | None
) -> None:
    def refuses(ticket: FakeTicket) -> None:
        ticket.fail(InvalidRequest("No.", param=param))

    def breaks(ticket: FakeTicket) -> None:
        ticket.tell(accepted(), delta("Once"))
        ticket.fail(InvalidRequest("No.", param=param))

    async with gateway(refuses) as running:
        complete = await running.client.post(PATH, json={"input": "Hi"})
        streamed = await running.client.post(PATH, json={"input": "Hi", "stream": True})
        running.dispatch.script = breaks
        broken = await running.client.post(PATH, json={"input": "Hi", "stream": True})
    assert [complete.status_code, streamed.status_code, broken.status_code] == [400, 400, 200]
    assert complete.json()["error"]["param"] == streamed.json()["error"]["param"] == shown
    last = json.loads(broken.text.strip().rpartition("data: ")[2])
    assert last["type"] == "error" and last["error"]["param"] == shown


async def test_a_broken_stream_raises_in_openais_client() -> None:
    def breaks(ticket: FakeTicket) -> None:
        ticket.tell(accepted(), delta("Once"))
        ticket.fail(WorkerFailed("broken"))

    async with gateway(breaks) as running, client(running) as api:
        stream = await api.responses.create(model="m", input="Hi", stream=True)
        with pytest.raises(openai.APIError, match="broken"):
            [event async for event in stream]


async def test_items_become_turns() -> None:
    picture = {"type": "input_image", "image_url": data_url(drawn("PNG"))}
    items = [
        {"role": "developer", "content": "Be kind."},
        {"role": "user", "content": [{"type": "input_text", "text": "Look:"}, picture]},
        {"type": "reasoning", "summary": [], "content": [{"type": "reasoning_text", "text": "H"}]},
        {"role": "assistant", "content": [{"type": "output_text", "text": "Let me see."}]},
        CALL,
        CALL | {"call_id": "c2"},
        OUTPUT | {"output": [picture]},
        OUTPUT | {"call_id": "c2"},
        {"type": "message", "role": "user", "content": "So?"},
    ]
    async with gateway(says("x")) as running:
        response = await running.client.post(
            PATH,
            json={"instructions": "Be brief.", "input": items, "reasoning": {"effort": "low"}},
        )
        job = running.dispatch.tickets[0].job
    assert response.status_code == 200, response.text
    assert job is not None
    assert [turn.role for turn in job.messages] == [
        "system",
        "system",
        "user",
        "assistant",
        "tool",
        "tool",
        "user",
    ]
    assistant = job.messages[3]
    assert (assistant.reasoning, len(assistant.tool_calls)) == ("H", 2)
    assert job.messages[6].content == [ImagePart(index=1), TextPart(text="So?")]
    assert job.template_options == {"reasoning_effort": "low"}


async def test_log_probabilities_come_when_included() -> None:
    entry = TokenLogprob("x", [120], -0.5, [("y", [121], -1.5)])

    def script(ticket: FakeTicket) -> None:
        ticket.tell(accepted(), delta("x", logprobs=[entry], finish_reason="stop"), done())

    async with gateway(script) as running:
        asked = {"input": "Hi", "include": ["message.output_text.logprobs"], "top_logprobs": 1}
        body = (await running.client.post(PATH, json=asked)).json()
        job = running.dispatch.tickets[0].job
    assert job is not None and job.logprobs == 1
    logprobs = body["output"][0]["content"][0]["logprobs"]
    assert logprobs[0]["top_logprobs"][0]["token"] == "y"


AGENTS = {
    "type": "namespace",
    "name": "agents",
    "description": "Other agents.",
    "tools": [
        {"type": "function", "name": "spawn", "description": "Start one.", "strict": False},
        {"type": "function", "name": "wait"},
    ],
}
OFFLINE = {"type": "web_search", "external_web_access": False}


def spawns(ticket: FakeTicket) -> None:
    call = ToolCallDelta(0, '{"task":"x"}', "c1", "agents__spawn")
    ticket.tell(accepted(), delta(tool_calls=[call], finish_reason="tool_calls"), done())


async def test_functions_of_a_namespace_are_called_by_both_names() -> None:
    asked: dict[str, Any] = {"model": "m", "input": "Hi", "tools": [TOOL, AGENTS, OFFLINE]}
    async with gateway(spawns) as running, client(running) as api:
        complete = await api.responses.create(**asked)
        stream = await api.responses.create(**asked, stream=True)
        events = [event async for event in stream]
        policy = running.dispatch.tickets[0].job.tool_policy  # type: ignore[union-attr]
        running.dispatch.script = says("Done.")
        again = [USER, *complete.output, OUTPUT | {"namespace": "agents", "name": "spawn"}]
        await api.responses.create(**(asked | {"input": again}))
        job = running.dispatch.tickets[-1].job
    assert policy is not None
    assert [(tool.name, tool.description) for tool in policy.tools] == [
        ("find", ""),
        ("agents__spawn", "Other agents.\n\nStart one."),
        ("agents__wait", ""),
    ]
    finals = [event.response for event in events if event.type == "response.completed"]
    items = [event.item for event in events if event.type == "response.output_item.done"]
    added = [event.item for event in events if event.type == "response.output_item.added"]
    for item in (complete.output[0], finals[0].output[0], items[0], added[0]):
        assert item.type == "function_call"
        assert (item.namespace, item.name) == ("agents", "spawn")
    names = [e.name for e in events if e.type == "response.function_call_arguments.done"]
    assert names == ["spawn"]
    assert job is not None
    assert job.messages[1].tool_calls[0].name == "agents__spawn"
    assert job.messages[2].name == "agents__spawn"


async def test_a_web_search_that_stays_offline_is_not_offered_and_not_claimed() -> None:
    async with gateway(says("x")) as running:
        asked = {"input": "Hi", "tools": [OFFLINE | {"search_context_size": "low"}]}
        body = (await running.client.post(PATH, json=asked)).json()
        job = running.dispatch.tickets[0].job
    assert body["tools"] == []
    assert job is not None and job.tool_policy is None


async def test_a_refusal_says_what_turns_web_search_off() -> None:
    async with gateway(says("x")) as running:
        asked = {"input": "Hi", "tools": [TOOL, OFFLINE | {"external_web_access": True}]}
        response = await running.client.post(PATH, json=asked)
    error = response.json()["error"]
    assert (response.status_code, error["param"]) == (400, "tools[1].type")
    assert error["code"] == "unsupported_parameter"
    assert 'web_search = "disabled"' in error["message"]


@pytest.mark.parametrize("kind", ["mcp", "custom", "local_shell", "image_generation"])
async def test_other_kinds_of_tools_are_refused_by_name(kind: str) -> None:
    async with gateway(says("x")) as running:
        tools = [TOOL, AGENTS | {"tools": [{"type": kind, "name": "x"}]}, {"type": kind}]
        nested = await running.client.post(PATH, json={"input": "Hi", "tools": tools[:2]})
        plain = await running.client.post(PATH, json={"input": "Hi", "tools": tools[::2]})
    assert nested.json()["error"]["param"] == "tools[1].tools[0].type"
    assert plain.json()["error"]["param"] == "tools[1].type"
    assert f"'{kind}' is not supported" in plain.json()["error"]["message"]


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"input": None}, "input"),
        ({"input": ""}, "input"),
        ({"input": []}, "input"),
        ({"input": [3]}, "input[0]"),
        ({"input": [CALL | {"type": 0}]}, "input[0].type"),
        ({"input": [CALL | {"type": ""}]}, "input[0].type"),
        ({"input": [{"role": "robot", "content": "x"}]}, "input[0].role"),
        ({"input": [{"role": "user", "content": ""}]}, "input[0].content"),
        ({"input": [{"type": "item_reference", "id": "x"}]}, "input[0].id"),
        ({"input": [{"type": "item_reference"}]}, "input[0].id"),
        ({"input": [USER, {"id": "msg_1"}]}, "input[1].id"),
        (
            {"input": [{"role": "user", "content": [{"type": "input_audio"}]}]},
            "input[0].content[0].type",
        ),
        (
            {
                "input": [
                    {"role": "user", "content": [{"type": "input_image", "image_url": "file:x"}]}
                ]
            },
            "input[0].content[0].image_url",
        ),
        ({"input": [USER, CALL]}, "input[1]"),
        ({"input": [USER, OUTPUT]}, "input[1].call_id"),
        ({"previous_response_id": "resp_1"}, "previous_response_id"),
        ({"conversation": "c"}, "conversation"),
        ({"background": True}, "background"),
        ({"truncation": "auto"}, "truncation"),
        ({"include": ["file_search_call.results"]}, "include[0]"),
        ({"tools": [{"type": "web_search"}]}, "tools[0].type"),
        ({"tools": [{"type": ["function"]}]}, "tools[0].type"),
        ({"tools": [{}]}, "tools[0].type"),
        ({"tools": [3]}, "tools[0]"),
        ({"tools": {"type": "function"}}, "tools"),
        ({"tools": [{**AGENTS, "tools": []}]}, "tools[0].tools"),
        ({"tools": [{**AGENTS, "name": "a b"}]}, "tools[0].name"),
        ({"tools": [AGENTS, AGENTS]}, "tools"),
        ({"tools": [AGENTS, TOOL | {"name": "agents__wait"}]}, "tools"),
        ({"tools": [AGENTS | {"name": f"n{i}"} for i in range(65)]}, "tools"),
        ({"tools": [OFFLINE], "tool_choice": "required"}, "tool_choice"),
        ({"tools": [OFFLINE | {"external_web_access": "no"}]}, "tools[0].external_web_access"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"tools": [TOOL], "tool_choice": {"type": "function", "name": "x"}}, "tool_choice.name"),
        ({"text": {"verbosity": "loud"}}, "text.verbosity"),
        ({"text": {"format": {"type": "xml"}}}, "text.format.type"),
        ({"n": 2}, "n"),
        ({"banana": 1}, "banana"),
    ],
    ids=str,
)
async def test_wrong_requests_are_refused_by_name(fields: dict[str, Any], param: str) -> None:
    async with gateway(says("x")) as running:
        response = await running.client.post(PATH, json={"input": "Hi"} | fields)
        assert running.dispatch.tickets == []
    assert response.status_code == 400
    assert response.json()["error"]["param"] == param


@pytest.mark.parametrize("item", [{"type": "item_reference", "id": "msg_1"}, {"id": "msg_1"}])
async def test_a_reference_is_told_what_to_send_instead(item: dict[str, Any]) -> None:
    """Vercel's AI SDK sends them unless it is told that nothing is stored."""
    async with gateway(says("x")) as running:
        response = await running.client.post(PATH, json={"input": [USER, item, USER]})
    message = response.json()["error"]["message"]
    assert "input[1].id: no item is stored" in message and "store: false" in message

"""Every wrong request is a 400 that names the field, and takes no slot."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.api.chat.models import ChatCompletionRequest
from gateway.api.chat.translate import to_generation
from gateway.api.common.conversation import ImageRules
from gateway.api.common.parameters import parse
from gateway.api.common.render import encode
from gateway.errors import InvalidRequest
from gateway.generation import GenerationRequest
from tests.gateway.fake_dispatch import says
from tests.gateway.serving import gateway, question

PNG_URL = "data:image/png;base64,AAAA"
TOOL = {"type": "function", "function": {"name": "find"}}
CALL = {"id": "c1", "type": "function", "function": {"name": "find", "arguments": "{}"}}
USER = {"role": "user", "content": "Hi"}
CALLS = {"role": "assistant", "tool_calls": [CALL]}


def user(content: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": content}]}


def image(image_url: Any) -> dict[str, Any]:
    return user([{"type": "image_url", "image_url": image_url}])


def translated(fields: dict[str, Any], *, vision_only: bool = False) -> GenerationRequest:
    body = parse(ChatCompletionRequest, encode(question(**fields)))
    return to_generation(body, ImageRules(max_images=2, vision_only=vision_only), tenant="")


WRONG: list[tuple[dict[str, Any], str, str]] = [
    # types and ranges
    ({"temperature": 2.1}, "temperature", "invalid_request"),
    ({"temperature": -0.1}, "temperature", "invalid_request"),
    ({"temperature": "1"}, "temperature", "invalid_request"),
    ({"temperature": True}, "temperature", "invalid_request"),
    ({"top_p": 1.1}, "top_p", "invalid_request"),
    ({"top_k": -2}, "top_k", "invalid_request"),
    ({"top_k": 1.5}, "top_k", "invalid_request"),
    ({"min_p": 2}, "min_p", "invalid_request"),
    ({"repetition_penalty": 0}, "repetition_penalty", "invalid_request"),
    ({"presence_penalty": 2.5}, "presence_penalty", "invalid_request"),
    ({"frequency_penalty": -2.5}, "frequency_penalty", "invalid_request"),
    ({"seed": 2**63}, "seed", "invalid_request"),
    ({"seed": 1.5}, "seed", "invalid_request"),
    ({"n": 0}, "n", "invalid_request"),
    ({"n": 17}, "n", "invalid_request"),
    ({"max_tokens": 0}, "max_tokens", "invalid_request"),
    ({"max_tokens": 2**31}, "max_tokens", "invalid_request"),
    ({"max_completion_tokens": -2}, "max_completion_tokens", "invalid_request"),
    ({"max_tokens": 5, "max_completion_tokens": 6}, "max_tokens", "invalid_request"),
    ({"stream": "true"}, "stream", "invalid_request"),
    ({"stream": 1}, "stream", "invalid_request"),
    ({"store": 0}, "store", "invalid_request"),
    ({"prediction": {"type": "content"}}, "prediction.content", "invalid_request"),
    ({"prediction": {"type": "x", "content": "a"}}, "prediction.type", "invalid_request"),
    (
        {"prediction": {"type": "content", "content": [3]}},
        "prediction.content[0]",
        "invalid_request",
    ),
    ({"stream_options": {"include_usage": True}}, "stream_options", "invalid_request"),
    ({"stream_options": {"x": 1}, "stream": True}, "stream_options.x", "unsupported_parameter"),
    ({"logprobs": 3}, "logprobs", "invalid_request"),
    ({"top_logprobs": 3}, "top_logprobs", "invalid_request"),
    ({"top_logprobs": 21, "logprobs": True}, "top_logprobs", "invalid_request"),
    ({"logit_bias": {"a": 1}}, "logit_bias.a", "invalid_request"),
    ({"logit_bias": {"-1": 1}}, "logit_bias.-1", "invalid_request"),
    ({"logit_bias": {"1": 101}}, "logit_bias.1", "invalid_request"),
    ({"logit_bias": {"1": "x"}}, "logit_bias.1", "invalid_request"),
    ({"logit_bias": [1]}, "logit_bias", "invalid_request"),
    ({"stop": 3}, "stop", "invalid_request"),
    ({"stop": ""}, "stop", "invalid_request"),
    ({"stop": ["a", ""]}, "stop[1]", "invalid_request"),
    ({"stop": ["a", 1]}, "stop[1]", "invalid_request"),
    ({"stop": list("abcdefghijklmnopq")}, "stop", "invalid_request"),
    ({"stop": "x" * 1001}, "stop", "invalid_request"),
    ({"model": 3}, "model", "invalid_request"),
    ({"reasoning_effort": "huge"}, "reasoning_effort", "invalid_request"),
    (
        {"chat_template_kwargs": {"messages": []}},
        "chat_template_kwargs.messages",
        "invalid_request",
    ),
    ({"chat_template_kwargs": 3}, "chat_template_kwargs", "invalid_request"),
    ({"metadata": {"a": 1}}, "metadata.a", "invalid_request"),
    ({"response_format": {"type": "xml"}}, "response_format.type", "invalid_request"),
    ({"response_format": "json"}, "response_format", "invalid_request"),
    (
        {"response_format": {"type": "json_schema"}},
        "response_format.json_schema",
        "invalid_request",
    ),
    (
        {"response_format": {"type": "json_schema", "json_schema": {"schema": {}}}},
        "response_format.json_schema.name",
        "invalid_request",
    ),
    # refused by name
    ({"banana": 1}, "banana", "unsupported_parameter"),
    ({"audio": {"voice": "x"}}, "audio", "unsupported_parameter"),
    ({"modalities": ["text", "audio"]}, "modalities", "unsupported_parameter"),
    ({"functions": [{"name": "f"}]}, "functions", "unsupported_parameter"),
    ({"function_call": "auto"}, "function_call", "unsupported_parameter"),
    ({"web_search_options": {}}, "web_search_options", "unsupported_parameter"),
    ({"verbosity": "loud"}, "verbosity", "invalid_request"),
    ({"moderation": {}}, "moderation", "unsupported_parameter"),
    # tools
    ({"tools": [{"type": "function"}]}, "tools[0].function", "invalid_request"),
    (
        {"tools": [{"type": "custom", "function": {"name": "f"}}]},
        "tools[0].type",
        "invalid_request",
    ),
    (
        {"tools": [{"type": "function", "function": {"name": "a b"}}]},
        "tools[0].function.name",
        "invalid_request",
    ),
    ({"tools": [TOOL, TOOL]}, "tools", "invalid_request"),
    ({"tool_choice": "required"}, "tool_choice", "invalid_request"),
    ({"tool_choice": "sometimes"}, "tool_choice", "invalid_request"),
    (
        {"tools": [TOOL], "tool_choice": {"type": "function", "function": {"name": "other"}}},
        "tool_choice.function.name",
        "invalid_request",
    ),
    # messages
    ({"messages": None}, "messages", "invalid_request"),
    ({"messages": []}, "messages", "invalid_request"),
    ({"messages": "Hi"}, "messages", "invalid_request"),
    ({"messages": {"role": "user"}}, "messages", "invalid_request"),
    ({"messages": ["Hi"]}, "messages[0]", "invalid_request"),
    ({"messages": [{}]}, "messages[0].role", "invalid_request"),
    ({"messages": [{"role": "robot", "content": "x"}]}, "messages[0].role", "invalid_request"),
    ({"messages": [{"role": ["user"], "content": "x"}]}, "messages[0].role", "invalid_request"),
    ({"messages": [USER, {"role": "user"}]}, "messages[1].content", "invalid_request"),
    ({"messages": [USER | {"name": 1}]}, "messages[0].name", "invalid_request"),
    (user(""), "messages[0].content", "invalid_request"),
    (user(" \n"), "messages[0].content", "invalid_request"),
    (user([]), "messages[0].content", "invalid_request"),
    (user(None), "messages[0].content", "invalid_request"),
    (user(5), "messages[0].content", "invalid_request"),
    (user([{"type": "text", "text": ""}]), "messages[0].content", "invalid_request"),
    (user(["Hi"]), "messages[0].content[0]", "invalid_request"),
    (user([{"text": "Hi"}]), "messages[0].content[0].type", "invalid_request"),
    (user([{"type": "video_url"}]), "messages[0].content[0].type", "invalid_request"),
    (user([{"type": "text"}]), "messages[0].content[0].text", "invalid_request"),
    (user([{"type": "text", "text": 1}]), "messages[0].content[0].text", "invalid_request"),
    (
        {"messages": [{"role": "assistant", "content": None}]},
        "messages[0].content",
        "invalid_request",
    ),
    (
        {"messages": [USER, {"role": "assistant", "content": ""}]},
        "messages[1].content",
        "invalid_request",
    ),
    (
        {"messages": [USER, {"role": "assistant", "content": "x", "audio": {"id": "a"}}]},
        "messages[1].audio",
        "unsupported_parameter",
    ),
    (
        {"messages": [USER, {"role": "tool", "content": "x", "tool_call_id": "c1"}]},
        "messages[1].tool_call_id",
        "invalid_request",
    ),
    (
        {"messages": [USER, CALLS, {"role": "tool", "content": "x"}]},
        "messages[2].tool_call_id",
        "invalid_request",
    ),
    ({"messages": [USER, CALLS, USER]}, "messages[1].tool_calls", "invalid_request"),
    ({"messages": [USER, CALLS]}, "messages[1].tool_calls", "invalid_request"),
    (
        {"messages": [USER, {"role": "assistant", "tool_calls": [{"id": "c"}]}]},
        "messages[1].tool_calls[0].function",
        "invalid_request",
    ),
    # images
    (image({}), "messages[0].content[0].image_url.url", "invalid_request"),
    (image({"url": ""}), "messages[0].content[0].image_url.url", "invalid_request"),
    (image({"url": 1}), "messages[0].content[0].image_url.url", "invalid_request"),
    (image(""), "messages[0].content[0].image_url", "invalid_request"),
    (image(None), "messages[0].content[0].image_url", "invalid_request"),
    (
        image({"url": PNG_URL, "detail": "huge"}),
        "messages[0].content[0].image_url.detail",
        "invalid_request",
    ),
    (image("file:///etc/passwd"), "messages[0].content[0].image_url", "invalid_image"),
    (
        image({"url": "/etc/passwd"}),
        "messages[0].content[0].image_url.url",
        "invalid_image",
    ),
    (image("ftp://example.com/a.png"), "messages[0].content[0].image_url", "invalid_image"),
    (image("http:example.com"), "messages[0].content[0].image_url", "invalid_image"),
    (
        image("http://example.com/" + "a" * 9000),
        "messages[0].content[0].image_url",
        "invalid_image",
    ),
    (
        user([{"type": "image_url", "image_url": PNG_URL}] * 3),
        "messages[0].content[2].image_url",
        "invalid_request",
    ),
    (
        {
            "messages": [
                {"role": "system", "content": [{"type": "image_url", "image_url": PNG_URL}]}
            ]
        },
        "messages[0].content[0]",
        "invalid_request",
    ),
]


@pytest.mark.parametrize(("fields", "param", "code"), WRONG, ids=lambda value: str(value)[:60])
def test_the_field_is_named(fields: dict[str, Any], param: str, code: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        translated(fields)
    assert (caught.value.param, caught.value.code) == (param, code)
    assert caught.value.message.endswith(".")


RIGHT: list[dict[str, Any]] = [
    dict.fromkeys(
        ("temperature", "top_p", "n", "stop", "seed", "stream", "tools", "tool_choice", "model")
    ),
    {"model": "", "temperature": 0, "top_p": 1, "n": 16, "stop": [], "top_k": -1},
    {"store": True, "service_tier": "auto", "user": "u", "metadata": {"a": "b"}},
    {
        "modalities": ["text"],
        "verbosity": "medium",
        "prediction": {"type": "content", "content": "a"},
    },
    {"logprobs": True, "top_logprobs": 20},
    {"logprobs": False, "max_tokens": 5, "max_completion_tokens": 5},
    {"tools": [TOOL], "tool_choice": "required", "parallel_tool_calls": False},
    {"tools": [], "tool_choice": "none"},
    {"response_format": {"type": "text"}},
    {"messages": [{"role": "system", "content": ""}, USER]},
    {"messages": [USER, CALLS, {"role": "tool", "content": "x", "tool_call_id": "c1"}]},
    {
        "messages": [
            USER,
            {
                "role": "assistant",
                "content": "x",
                "refusal": None,
                "annotations": [],
                "audio": None,
                "function_call": None,
                "tool_calls": None,
                "reasoning_content": "y",
            },
            USER,
        ]
    },
    image({"url": "https://example.com/a.png", "detail": "low"}),
    image("DATA:image/PNG;BASE64,AAAA"),
]


@pytest.mark.parametrize("fields", RIGHT, ids=lambda value: str(value)[:60])
def test_what_is_right_passes(fields: dict[str, Any]) -> None:
    translated(fields)


def test_allowed_tools_narrow_the_choice() -> None:
    tools = [{"type": "function", "function": {"name": name}} for name in "abc"]
    names = [{"type": "function", "function": {"name": "b"}}]
    choice = {"type": "allowed_tools", "allowed_tools": {"mode": "required", "tools": names}}
    policy = translated({"tools": tools, "tool_choice": choice}).tool_policy
    assert policy is not None
    assert [tool.name for tool in policy.tools] == ["b"]
    assert policy.mode == "required"


def test_text_alone_is_refused_when_only_pictures_are_answered() -> None:
    with pytest.raises(InvalidRequest) as caught:
        translated({}, vision_only=True)
    assert caught.value.code == "text_only_not_supported"
    translated(image(PNG_URL), vision_only=True)


BROKEN = [
    b"",
    b"{",
    b"[]",
    b"3",
    b"null",
    b'"text"',
    b"\xff\xfe",
    b"not json",
    b'{"messages": NaN}',
    b'{"temperature": Infinity, "messages": []}',
    b"[" * 100_000,
    b'{"a":' * 50_000,
    b'{"messages": [{"role": "user", "content": "\\ud800"}]}',
    b'{"messages": [{"role": "user", "content": "a"}]} trailing',
    b"\x00" * 100,
]


async def test_a_broken_body_is_a_400_and_the_next_request_works() -> None:
    async with gateway(says("Hi")) as running:
        for body in BROKEN:
            response = await running.client.post(
                "/v1/chat/completions",
                content=body,
                headers={"content-type": "application/json"},
            )
            assert response.status_code == 400, body[:40]
            assert response.json()["error"]["type"] == "invalid_request_error"
        assert running.dispatch.tickets == []
        assert (await running.chat()).status_code == 200


IMAGES = [
    "data:image/png;base64,!!!",
    "data:image/png;base64,",
    "data:image/png,abc",
    "data:image/png;base64",
    "data:text/plain;base64,aGVsbG8gd29ybGQ=",
    "http://127.0.0.1:1/a.png",
    "http://localhost/a.png",
]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("url", IMAGES)
async def test_a_bad_image_is_a_400_that_names_it(url: str, stream: bool) -> None:
    async with gateway(says("Hi")) as running:
        response = await running.chat(stream=stream, **image({"url": url}))
        assert running.dispatch.tickets[0].cancelled.is_set()
        assert (await running.chat()).status_code == 200
    assert response.status_code == 400
    error = response.json()["error"]
    assert error["code"] == "invalid_image"
    assert error["param"] == "messages[0].content[0].image_url.url"


LONG = "x" * 500_000


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/messages"])
@pytest.mark.parametrize(
    "wrong", [{LONG: 1}, {"logit_bias": {LONG: 1}}, {"temperature": 9, LONG: 1}]
)
async def test_a_refusal_does_not_repeat_all_that_the_client_sent(
    wrong: dict[str, Any], path: str
) -> None:
    async with gateway() as running:
        answer = await running.client.post(path, json=question(max_tokens=5, **wrong))
    assert answer.status_code == 400
    length = len(answer.content)
    assert length < 20_000

"""What clients, SDKs and frameworks really send, and what is right: one row each.

Every row goes over HTTP; what a worker would be given, or the status and words of a refusal, stands
beside it. What is right was found in public reports about other servers.
"""

from __future__ import annotations

import asyncio
import json
from typing import Any

import msgspec
import pytest

from gateway.errors import (
    ApiError,
    ContextExceeded,
    DeadlinePassed,
    InvalidRequest,
    QueueFull,
    WorkerFailed,
)
from gateway.generation import GenerationRequest
from shared.messages import Job, TextPart
from tests.gateway.fake_dispatch import FakeTicket, accepted, delta, done, says
from tests.gateway.serving import gateway, question

CHAT = "/v1/chat/completions"
RESPONSES = "/v1/responses"
MESSAGES = "/v1/messages"
COMPLETIONS = "/v1/completions"

USER = {"role": "user", "content": "Hi"}
CALL = {"id": "c1", "type": "function", "function": {"name": "find", "arguments": "{}"}}
CALLS = {"role": "assistant", "content": None, "tool_calls": [CALL]}
TOOL_USE = {"type": "tool_use", "id": "c1", "name": "find", "input": {}}


def chat(*messages: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return {"messages": [*messages], **fields}


def history(**fields: Any) -> dict[str, Any]:
    """A conversation whose answer comes back with these fields."""
    return chat(USER, {"role": "assistant", "content": "Hello", **fields}, USER)


def called(**function: Any) -> dict[str, Any]:
    call = CALL | {"function": {"name": "find", "arguments": "{}", **function}}
    result = {"role": "tool", "tool_call_id": "c1", "content": "x"}
    return chat(USER, CALLS | {"tool_calls": [call]}, result)


def answered(content: Any) -> dict[str, Any]:
    """A conversation that ends in what a tool answered."""
    return chat(USER, CALLS, {"role": "tool", "tool_call_id": "c1", "content": content})


def items(*inputs: dict[str, Any]) -> dict[str, Any]:
    return {"input": [*inputs]}


def blocks(*messages: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return {"max_tokens": 5, "messages": [*messages], **fields}


VLLM_DEFAULTS = {
    "min_tokens": 0,
    "length_penalty": 1.0,
    "use_beam_search": False,
    "early_stopping": False,
    "skip_special_tokens": True,
    "spaces_between_special_tokens": True,
    "include_stop_str_in_output": False,
    "stop_token_ids": [],
    "bad_words": [],
    "best_of": 1,
    "guided_json": None,
}

ACCEPTED: dict[str, tuple[str, dict[str, Any]]] = {
    # what a client got, sent back
    "openai parse(): parsed": (CHAT, history(parsed={"a": 1}, refusal=None)),
    "openai parse(): parsed_arguments": (CHAT, called(parsed_arguments={"a": 1})),
    "openai model_dump()": (CHAT, history(audio=None, function_call=None, annotations=None)),
    "reasoning_details": (CHAT, history(reasoning_details=[{"type": "reasoning.text"}])),
    "thinking_blocks": (CHAT, history(thinking_blocks=[])),
    "provider_specific_fields": (CHAT, history(provider_specific_fields=None)),
    "in a call, too": (CHAT, called(provider_specific_fields={"x": 1})),
    "an id of any message": (CHAT, chat(USER | {"id": "m1", "opts": {}})),
    "nulls on any role": (CHAT, chat(USER | {"tool_calls": None, "name": None, "audio": None})),
    "a field nobody knows": (CHAT, chat(USER | {"banana": 1})),
    "a field of a text part": (
        CHAT,
        chat(USER | {"content": [{"type": "text", "text": "a", "x": 1}]}),
    ),
    "responses: parsed": (
        RESPONSES,
        items(
            {
                "role": "assistant",
                "content": [{"type": "output_text", "text": "a", "parsed": {"a": 1}}],
            },
            USER,
        ),
    ),
    "responses: parsed_arguments": (
        RESPONSES,
        items(
            USER,
            {
                "type": "function_call",
                "call_id": "c1",
                "name": "find",
                "arguments": "{}",
                "parsed_arguments": {},
            },
            {"type": "function_call_output", "call_id": "c1", "output": "x", "created_by": "a"},
        ),
    ),
    "messages: parsed_output": (
        MESSAGES,
        blocks(
            USER,
            {
                "role": "assistant",
                "id": "msg_1",
                "content": [{"type": "text", "text": "a", "parsed_output": {}}],
            },
            USER,
        ),
    ),
    # what asks for nothing
    "unknown and null": (CHAT, chat(USER, banana=None)),
    "unknown and empty": (CHAT, chat(USER, a=[], b={}, c="")),
    "unknown and null, deep": (CHAT, chat(USER, stream=True, stream_options={"x": None})),
    "no functions": (CHAT, chat(USER, functions=[])),
    "verbosity": (CHAT, chat(USER, verbosity="low")),
    "store": (CHAT, chat(USER, store=True)),
    "responses: store and verbosity": (
        RESPONSES,
        {"input": "Hi", "store": True, "text": {"verbosity": "high"}},
    ),
    "llama.cpp's words": (CHAT, chat(USER, cache_prompt=True, timings_per_token=True)),
    "vLLM's words, as its clients leave them": (CHAT, chat(USER, **VLLM_DEFAULTS)),
    "completions: vLLM's words": (COMPLETIONS, {"prompt": "a", **VLLM_DEFAULTS}),
    "completions: llama.cpp's words": (COMPLETIONS, {"prompt": "a", "cache_prompt": False}),
    "no log probabilities": (CHAT, chat(USER, logprobs=False, top_logprobs=0)),
    # empty turns before the last
    "content of a tool []": (CHAT, answered([])),
    "content of a tool null": (CHAT, answered(None)),
    "empty user": (CHAT, chat(USER | {"content": ""}, {"role": "assistant", "content": "?"}, USER)),
    "user null": (CHAT, chat(USER | {"content": None}, USER)),
    "user []": (CHAT, chat(USER | {"content": []}, USER)),
    "assistant null": (CHAT, history(content=None)),
    "assistant []": (CHAT, history(content=[])),
    "system null": (CHAT, chat({"role": "system", "content": None}, USER)),
    "responses: output []": (
        RESPONSES,
        items(
            USER,
            {"type": "function_call", "call_id": "c1", "name": "find", "arguments": "{}"},
            {"type": "function_call_output", "call_id": "c1", "output": []},
        ),
    ),
    "responses: content []": (RESPONSES, items({"role": "user", "content": []}, USER)),
    "messages: content []": (MESSAGES, blocks({"role": "user", "content": []}, USER)),
    "messages: assistant ''": (MESSAGES, blocks(USER, {"role": "assistant", "content": ""}, USER)),
    "messages: result []": (
        MESSAGES,
        blocks(
            USER,
            {"role": "assistant", "content": [TOOL_USE]},
            {
                "role": "user",
                "content": [{"type": "tool_result", "tool_use_id": "c1", "content": []}],
            },
        ),
    ),
    # numbers as languages write them
    "whole floats": (
        CHAT,
        chat(USER, n=1.0, seed=7.0, top_k=40.0, logprobs=True, top_logprobs=2.0),
    ),
    "messages: whole floats": (MESSAGES, blocks(USER, max_tokens=100.0)),
}


@pytest.mark.parametrize(("path", "body"), ACCEPTED.values(), ids=ACCEPTED)
async def test_it_is_accepted(path: str, body: dict[str, Any]) -> None:
    async with gateway(says("Yes")) as running:
        answer = await running.client.post(path, json=body)
    assert answer.status_code == 200, answer.text


REFUSED: dict[str, tuple[str, dict[str, Any], str]] = {
    "an unknown parameter": (CHAT, chat(USER, banana=1), "banana"),
    "one that is false": (CHAT, chat(USER, banana=False), "banana"),
    "one deep down": (CHAT, chat(USER, stream=True, stream_options={"x": 1}), "stream_options.x"),
    "audio of an earlier answer": (CHAT, history(audio={"id": "a"}), "messages[1].audio"),
    "a last user with nothing": (CHAT, chat(USER, USER | {"content": []}), "messages[1].content"),
    "a last user with blanks": (CHAT, chat(USER, USER | {"content": " "}), "messages[1].content"),
    "a last user with null": (CHAT, chat(USER | {"content": None}), "messages[0].content"),
    "responses: a last one": (
        RESPONSES,
        items({"role": "user", "content": []}),
        "input[0].content",
    ),
    "messages: a last one": (
        MESSAGES,
        blocks({"role": "user", "content": ""}),
        "messages[0].content",
    ),
    "no tokens": (CHAT, chat(USER, max_tokens=0), "max_tokens"),
    "less than no limit": (CHAT, chat(USER, max_tokens=-2), "max_tokens"),
    "half a token": (CHAT, chat(USER, max_tokens=1.5), "max_tokens"),
    "a float that is none": (CHAT, chat(USER, max_tokens=1e300), "max_tokens"),
    "thinking of no kind we know": (CHAT, chat(USER, thinking={"type": "deep"}), "thinking.type"),
    "a least length": (CHAT, chat(USER, min_tokens=5), "min_tokens"),
    "special tokens shown": (CHAT, chat(USER, skip_special_tokens=False), "skip_special_tokens"),
    "beam search": (CHAT, chat(USER, use_beam_search=True), "use_beam_search"),
    "the stop text shown": (
        CHAT,
        chat(USER, include_stop_str_in_output=True),
        "include_stop_str_in_output",
    ),
    "likeliest tokens without logprobs": (CHAT, chat(USER, top_logprobs=2), "top_logprobs"),
    "seventeen stop texts": (CHAT, chat(USER, stop=["a"] * 17), "stop"),
}


@pytest.mark.parametrize(("path", "body", "param"), REFUSED.values(), ids=REFUSED)
async def test_it_is_refused_by_name(path: str, body: dict[str, Any], param: str) -> None:
    async with gateway(says("Yes")) as running:
        answer = await running.client.post(path, json=body)
        assert running.dispatch.tickets == []
    assert answer.status_code == 400, answer.text
    assert answer.json()["error"]["param"] == param


SIXTEEN = [f"s{number}" for number in range(16)]

UNDERSTOOD: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    "no limit": (CHAT, chat(USER, max_tokens=-1), {"max_tokens": None}),
    "no limit, new name": (CHAT, chat(USER, max_completion_tokens=-1), {"max_tokens": None}),
    "a whole float": (CHAT, chat(USER, max_tokens=100.0), {"max_tokens": 100}),
    "responses: no limit": (
        RESPONSES,
        {"input": "Hi", "max_output_tokens": -1},
        {"max_tokens": None},
    ),
    "messages: no limit": (MESSAGES, blocks(USER, max_tokens=-1), {"max_tokens": None}),
    "completions: no limit": (
        COMPLETIONS,
        {"prompt": "a", "max_tokens": -1},
        {"max_tokens": None},
    ),
    "completions: left out": (COMPLETIONS, {"prompt": "a"}, {"max_tokens": 16}),
    "thinking, as GLM's and DeepSeek's clients say": (
        CHAT,
        chat(USER, thinking={"type": "disabled"}),
        {"template_options": {"enable_thinking": False}},
    ),
    "thinking, with our word beside it": (
        CHAT,
        chat(USER, thinking={"type": "disabled"}, enable_thinking=True),
        {"template_options": {"enable_thinking": True}},
    ),
    "thinking with a budget, as litellm and Cherry Studio say": (
        CHAT,
        chat(USER, thinking={"type": "enabled", "budget_tokens": 1024}),
        {"template_options": {"enable_thinking": True}},
    ),
    "thinking as the model likes, as Doubao's clients say": (
        CHAT,
        chat(USER, thinking={"type": "auto"}),
        {"template_options": {}},
    ),
    "thinking, as Claude's clients say": (
        CHAT,
        chat(USER, thinking={"type": "adaptive", "display": "summarized"}),
        {"template_options": {"enable_thinking": True}},
    ),
    "sixteen stop texts": (CHAT, chat(USER, stop=SIXTEEN), {"stop": SIXTEEN}),
}


@pytest.mark.parametrize(("path", "body", "wanted"), UNDERSTOOD.values(), ids=UNDERSTOOD)
async def test_it_means_what_its_sender_means(
    path: str, body: dict[str, Any], wanted: dict[str, Any]
) -> None:
    job = await sent(path, body)
    assert {name: getattr(job, name) for name in wanted} == wanted


PROMPTS: dict[str, tuple[Any, list[tuple[str | None, list[int]]]]] = {
    "a text": ("a", [("a", [])]),
    "a text in a list": (["a"], [("a", [])]),
    "token ids": ([1, 2], [(None, [1, 2])]),
    "texts": (["a", "b"], [("a", []), ("b", [])]),
    "lists of token ids": ([[1], [2, 3]], [(None, [1]), (None, [2, 3])]),
}


@pytest.mark.parametrize(("prompt", "wanted"), PROMPTS.values(), ids=PROMPTS)
async def test_each_prompt_has_choices_of_its_own(
    prompt: Any, wanted: list[tuple[str | None, list[int]]]
) -> None:
    async with gateway(says("Yes")) as running:
        answer = await running.client.post(COMPLETIONS, json={"prompt": prompt})
        jobs = [ticket.job for ticket in running.dispatch.tickets if ticket.job is not None]
    assert answer.status_code == 200, answer.text
    assert [(job.prompt, job.prompt_ids) for job in jobs] == wanted
    body = answer.json()
    assert [choice["index"] for choice in body["choices"]] == list(range(len(wanted)))
    assert body["usage"]["completion_tokens"] == 2 * len(wanted)


async def test_choices_of_several_prompts_are_numbered_prompt_after_prompt() -> None:
    async with gateway() as running:
        body = {"prompt": ["a", "b"], "n": 2, "stream": True}
        asking = asyncio.create_task(running.client.post(COMPLETIONS, json=body))
        first, second = await running.dispatch.submitted(0), await running.dispatch.submitted(1)
        ends = [delta(f"b{choice}", choice, finish_reason="stop") for choice in (0, 1)]
        second.tell(accepted(), *ends, done())
        first.tell(accepted(), delta("a1", 1, finish_reason="stop"))
        first.tell(delta("a0", 0, finish_reason="stop"), done())
        text = (await asking).text
        cancelled = [ticket.cancelled.is_set() for ticket in running.dispatch.tickets]
    events = [json.loads(event[6:]) for event in text.split("\n\n")[:-2]]
    told = {event["choices"][0]["index"]: event["choices"][0]["text"] for event in events}
    assert told == {0: "a0", 1: "a1", 2: "b0", 3: "b1"}
    assert text.endswith("data: [DONE]\n\n") and cancelled == [True, True]


async def test_one_wrong_prompt_refuses_them_all_and_is_named() -> None:
    async with gateway() as running:
        body = {"prompt": ["a", "b"], "stream": True}
        asking = asyncio.create_task(running.client.post(COMPLETIONS, json=body))
        first, second = await running.dispatch.submitted(0), await running.dispatch.submitted(1)
        first.tell(accepted(), delta("a"))
        second.fail(InvalidRequest("Too long.", param="prompt"))
        answer = await asking
        assert first.cancelled.is_set()
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "prompt[1]")


async def test_no_place_for_one_prompt_is_none_for_all() -> None:
    async with gateway() as running:
        reserve = running.dispatch.reserve

        def once(request: GenerationRequest, request_id: str) -> FakeTicket:
            if running.dispatch.tickets:
                raise QueueFull(retry_after_s=1)
            return reserve(request, request_id)

        running.dispatch.reserve = once  # type: ignore[method-assign]
        answer = await running.client.post(COMPLETIONS, json={"prompt": ["a", "b"]})
        assert running.dispatch.tickets[0].cancelled.is_set()
    assert answer.status_code == 429


@pytest.mark.parametrize(
    ("path", "body", "message", "param"),
    [
        (CHAT, chat(USER), "In OpenAI's words.", "messages"),
        (RESPONSES, {"input": "Hi"}, "In OpenAI's words.", "input"),
        (MESSAGES, blocks(USER), "prompt is too long: 50 tokens > 40 maximum", "messages"),
    ],
)
async def test_a_long_prompt_is_told_in_the_words_that_clients_look_for(
    path: str, body: dict[str, Any], message: str, param: str
) -> None:
    error = ContextExceeded(
        "In OpenAI's words.", prompt_tokens=50, context_tokens=40, param="messages"
    )
    async with gateway(lambda ticket: ticket.fail(error)) as running:
        answer = await running.client.post(path, json=body)
    told = answer.json()["error"]
    assert (told["message"], told["param"]) == (message, param)
    assert told["code"] == "context_length_exceeded"


@pytest.mark.parametrize("stream", [False, True])
async def test_what_no_grammar_enforces_is_named_in_a_header(stream: bool) -> None:
    def script(ticket: FakeTicket) -> None:
        names = ["format:binary", "uniqueItems", "format:a\r\nx-evil: 1", "format:" + "x" * 100]
        taken = msgspec.structs.replace(accepted(), unenforced=names)
        ticket.tell(taken, delta("{}", finish_reason="stop"), done())

    async with gateway(script) as running:
        answer = await running.chat(stream=stream)
    wanted = "format:binary, uniqueItems, format:a__x-evil:_1, format:" + "x" * 57
    assert answer.headers["x-schema-unenforced"] == wanted


async def test_strict_reaches_the_worker() -> None:
    form = {"type": "json_schema", "json_schema": {"name": "n", "schema": {}, "strict": True}}
    job = await sent(CHAT, chat(USER, response_format=form))
    assert job.response_format is not None and job.response_format.strict
    text = {"format": {"type": "json_schema", "name": "n", "schema": {}, "strict": True}}
    job = await sent(RESPONSES, {"input": "Hi", "text": text})
    assert job.response_format is not None and job.response_format.strict


async def test_an_empty_turn_stays_a_turn() -> None:
    """Templates that want user and assistant by turns would not take the rest."""
    job = await sent(CHAT, chat(USER, {"role": "assistant", "content": None}, USER))
    assert [turn.role for turn in job.messages] == ["user", "assistant", "user"]
    assert job.messages[1].content == []
    assert job.messages[2].content == [TextPart(text="Hi")]


async def sent(path: str, body: dict[str, Any]) -> Job:
    """Return the job that a worker would be given."""
    async with gateway(says("Yes")) as running:
        answer = await running.client.post(path, json=body)
        assert answer.status_code == 200, answer.text
        job = running.dispatch.tickets[0].job
    assert job is not None
    return job


PATHS = [
    "//v1/chat/completions",
    "/chat/completions",
    "/v1/v1/chat/completions",
    "/v1//chat/completions",
    "/v1/chat/completions/",
    "/chat/completions/",
    "//chat/completions//",
]


@pytest.mark.parametrize("path", PATHS)
async def test_a_base_url_may_have_a_slash_or_a_version_too_many_or_too_few(path: str) -> None:
    async with gateway(says("Yes"), api_key=("k",)) as running:
        key = {"authorization": "Bearer k"}
        # Whole addresses: a client's base URL would swallow two slashes.
        answer = await running.client.post(running.url + path, json=question(), headers=key)
        keyless = await running.client.post(running.url + path, json=question())
    assert answer.status_code == 200, answer.text
    assert keyless.status_code == 401


@pytest.mark.parametrize("path", ["/models", "/v1/models/", "//models/org/fake", "/health/"])
async def test_other_paths_too(path: str) -> None:
    async with gateway() as running:
        answer = await running.client.get(running.url + path)
    assert answer.status_code == 200, answer.text


async def test_errors_of_such_paths_are_in_their_dialect() -> None:
    async with gateway() as running:
        answer = await running.client.post(f"{running.url}//v1/messages/", json={})
    assert answer.json()["type"] == "error"


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/api/version"),
        ("GET", "/api/tags"),
        ("POST", "/api/chat"),
        ("GET", "/props"),
        ("POST", "/completion"),
        ("GET", "/v1"),
        ("GET", "/v1/"),
    ],
)
async def test_other_servers_paths_are_told_the_base_url(method: str, path: str) -> None:
    async with gateway() as running:
        answer = await running.client.request(method, path)
        behind_tls = await running.client.request(
            method, path, headers={"host": "localhost", "x-forwarded-proto": "https"}
        )
    assert answer.status_code == 404
    assert f"{running.url}/v1," in answer.json()["error"]["message"]
    assert "https://localhost/v1," in behind_tls.json()["error"]["message"]


async def test_models_tell_what_clients_look_for() -> None:
    async with gateway() as running:
        models = (await running.client.get("/v1/models")).json()["data"]
    assert [model["max_model_len"] for model in models] == [4096, None]
    assert [model["input_modalities"] for model in models] == [["text", "image"], ["text"]]


@pytest.mark.parametrize("host", ["host.docker.internal:8000", "host.containers.internal"])
async def test_containers_call_this_machine_by_other_names(host: str) -> None:
    async with gateway(says("Yes")) as running:
        answer = await running.client.get("/v1/models", headers={"host": host})
        rebound = await running.client.get("/v1/models", headers={"host": "x" + host})
    assert (answer.status_code, rebound.status_code) == (200, 403)


@pytest.mark.parametrize("error", [DeadlinePassed("Too late."), WorkerFailed("Two have died.")])
async def test_sdks_do_not_try_again_what_only_costs_more(error: ApiError) -> None:
    async with gateway() as running:
        running.dispatch.refusal = error
        answer = await running.chat()
    assert answer.headers["x-should-retry"] == "false"


async def test_capabilities_say_what_becomes_of_unknown_fields() -> None:
    async with gateway() as running:
        told = (await running.client.get("/v1/capabilities")).json()
    assert told["unknown_fields"].keys() == {"parameters", "messages"}
    fields = told["message_fields"]["chat.completions"]["AssistantMessage"]
    assert {"audio": "refused", "annotations": "ignored"}.items() <= {
        field["name"]: field["support"] for field in fields
    }.items()
    store = next(row for row in told["chat.completions"] if row["name"] == "store")
    assert store["support"] == "ignored" and "stored" in store["meaning"]

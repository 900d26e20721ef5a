"""`openai` for Python: calling functions, whole and streamed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from openai import OpenAI

from tests.clients.asking import CAPITAL, CAPITAL_ANSWER, COUNTRY_SCHEMA, MODEL, chat_tool, text

COUNTRIES = ({"country": "France"}, {"country": "Japan"})
FORCED: Any = {"type": "function", "function": {"name": "get_capital"}}


@pytest.fixture
def api(base_url: str) -> Iterator[OpenAI]:
    with OpenAI(base_url=base_url, api_key="any", max_retries=0) as client:
        yield client


def test_a_forced_call_and_its_answer(api: OpenAI) -> None:
    messages = text(CAPITAL)
    answer = api.chat.completions.create(
        model=MODEL,
        messages=messages,
        tools=[chat_tool("get_time"), chat_tool("get_capital")],
        tool_choice=FORCED,
    )
    choice = answer.choices[0]
    assert choice.finish_reason == "tool_calls"
    assert choice.message.tool_calls is not None and len(choice.message.tool_calls) == 1
    call = choice.message.tool_calls[0]
    assert call.type == "function" and call.function.name == "get_capital"
    assert json.loads(call.function.arguments) in COUNTRIES
    result = {"role": "tool", "tool_call_id": call.id, "content": "Paris"}
    follow_up = [*messages, choice.message, result, *text(CAPITAL)]
    second = api.chat.completions.create(model=MODEL, messages=follow_up, max_tokens=30)
    assert second.choices[0].message.content


def test_a_required_call_streamed(api: OpenAI) -> None:
    stream = api.chat.completions.create(
        model=MODEL,
        messages=text(CAPITAL),
        tools=[chat_tool("get_capital")],
        tool_choice="required",
        parallel_tool_calls=False,
        stream=True,
    )
    chunks = [chunk.choices[0] for chunk in stream if chunk.choices]
    deltas = [delta for chunk in chunks for delta in chunk.delta.tool_calls or []]
    first, *rest = deltas
    assert first.id and first.function is not None and first.function.name == "get_capital"
    assert all(delta.index == 0 and delta.id is None for delta in rest)
    arguments = "".join((delta.function and delta.function.arguments) or "" for delta in deltas)
    assert json.loads(arguments) in COUNTRIES
    assert chunks[-1].finish_reason == "tool_calls"


def test_tools_that_must_not_be_called(api: OpenAI) -> None:
    answer = api.chat.completions.create(
        model=MODEL,
        messages=text(CAPITAL),
        tools=[chat_tool("get_capital")],
        tool_choice="none",
    )
    assert answer.choices[0].message.content == CAPITAL_ANSWER
    assert answer.choices[0].message.tool_calls is None


def test_a_forced_call_of_a_response(api: OpenAI) -> None:
    answer = api.responses.create(
        model=MODEL,
        input=CAPITAL,
        tools=[
            {
                "type": "function",
                "name": "get_capital",
                "parameters": COUNTRY_SCHEMA,
                "strict": True,
            }
        ],
        tool_choice={"type": "function", "name": "get_capital"},
    )
    call = answer.output[0]
    assert call.type == "function_call" and call.name == "get_capital"
    assert json.loads(call.arguments) in COUNTRIES

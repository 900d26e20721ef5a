"""`anthropic` for Python speaks to `/v1/messages`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import anthropic
import pytest
from anthropic import Anthropic, AsyncAnthropic
from anthropic.types import ToolChoiceToolParam, ToolParam

from tests.clients.asking import (
    CAPITAL,
    CAPITAL_ANSWER,
    COUNT,
    COUNT_ANSWER,
    COUNTRY_SCHEMA,
    MODEL,
    PICTURE,
    text,
)
from tests.processes import Service

TOOL: ToolParam = {"name": "get_capital", "input_schema": COUNTRY_SCHEMA}
COUNTRIES = ({"country": "France"}, {"country": "Japan"})
ONE_CALL: ToolChoiceToolParam = {
    "type": "tool",
    "name": "get_capital",
    "disable_parallel_tool_use": True,
}


@pytest.fixture
def api(demo: Service) -> Iterator[Anthropic]:
    with Anthropic(base_url=demo.url, api_key="any", max_retries=0) as client:
        yield client


def about_the_picture(question: str) -> list[Any]:
    source = {"type": "base64", "media_type": "image/png", "data": PICTURE}
    picture = {"type": "image", "source": source}
    return [{"role": "user", "content": [picture, {"type": "text", "text": question}]}]


def only_text(message: anthropic.types.Message) -> str:
    (block,) = message.content
    assert block.type == "text"
    return block.text


def test_a_question_and_a_picture(api: Anthropic) -> None:
    asked = api.messages.create(model=MODEL, max_tokens=50, messages=text(CAPITAL))
    assert only_text(asked) == CAPITAL_ANSWER
    assert asked.stop_reason == "end_turn"
    seen = api.messages.create(model=MODEL, max_tokens=50, messages=about_the_picture(COUNT))
    assert only_text(seen) == COUNT_ANSWER


def test_the_models(api: Anthropic) -> None:
    (model,) = api.models.list(limit=1000)
    assert (model.id, model.type, model.display_name) == (MODEL, "model", MODEL)
    assert model.created_at.tzinfo is not None
    assert api.models.retrieve(MODEL) == model


def test_a_stop_sequence_is_named(api: Anthropic) -> None:
    stops = ["nowhere", " is"]
    asked = api.messages.create(
        model=MODEL, max_tokens=50, messages=text(CAPITAL), stop_sequences=stops
    )
    assert only_text(asked) == CAPITAL_ANSWER.partition(" is")[0]
    assert (asked.stop_reason, asked.stop_sequence) == ("stop_sequence", " is")


def test_a_stream(api: Anthropic) -> None:
    with api.messages.stream(
        model=MODEL, max_tokens=50, messages=about_the_picture(COUNT)
    ) as stream:
        pieces = list(stream.text_stream)
        final = stream.get_final_message()
    assert "".join(pieces) == only_text(final) == COUNT_ANSWER
    assert final.usage.output_tokens > 0


async def test_async(demo: Service) -> None:
    async with AsyncAnthropic(base_url=demo.url, api_key="any") as api:
        asked = await api.messages.create(model=MODEL, max_tokens=50, messages=text(CAPITAL))
    assert only_text(asked) == CAPITAL_ANSWER


def test_counted_tokens_are_those_that_are_used(api: Anthropic) -> None:
    messages = about_the_picture(COUNT)
    counted = api.messages.count_tokens(model=MODEL, messages=messages)
    usage = api.messages.create(model=MODEL, max_tokens=4, messages=messages).usage
    assert counted.input_tokens == usage.input_tokens + (usage.cache_read_input_tokens or 0)


def test_a_forced_call_and_its_answer(api: Anthropic) -> None:
    called = api.messages.create(
        model=MODEL,
        max_tokens=100,
        tools=[TOOL],
        messages=text(CAPITAL),
        tool_choice=ONE_CALL,
    )
    assert called.stop_reason == "tool_use"
    (call,) = called.content
    assert call.type == "tool_use" and call.name == "get_capital"
    assert call.input in COUNTRIES
    result = {"type": "tool_result", "tool_use_id": call.id, "content": "Paris"}
    turns = [
        *text(CAPITAL),
        {"role": "assistant", "content": called.content},
        {"role": "user", "content": [result]},
    ]
    said = api.messages.create(model=MODEL, max_tokens=20, tools=[TOOL], messages=turns)
    assert said.content


def test_a_call_streamed(api: Anthropic) -> None:
    with api.messages.stream(
        model=MODEL,
        max_tokens=100,
        messages=text(CAPITAL),
        tools=[TOOL],
        tool_choice=ONE_CALL,
    ) as stream:
        kinds = {event.type for event in stream}
        (call,) = stream.get_final_message().content
    assert "input_json" in kinds
    assert call.type == "tool_use" and call.input in COUNTRIES


def test_errors_are_the_clients_own(api: Anthropic) -> None:
    with pytest.raises(anthropic.BadRequestError, match="messages"):
        api.messages.create(model=MODEL, max_tokens=50, messages=[])
    with pytest.raises(anthropic.NotFoundError, match="claude-x") as caught:
        api.messages.create(model="claude-x", max_tokens=50, messages=text(CAPITAL))
    assert caught.value.type == "not_found_error"

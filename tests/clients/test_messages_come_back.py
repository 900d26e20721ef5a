"""What SDKs' own helpers return is sent back to the server as it is, as their documents show it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, Literal

import anthropic
import openai
import pytest
from openai import OpenAI
from pydantic import BaseModel

from tests.clients.asking import CAPITAL, CAPITAL_ANSWER, MODEL, text
from tests.processes import Service

# The SDK's own remark on dumping what it has parsed.
pytestmark = pytest.mark.filterwarnings("ignore:Pydantic serializer warnings")


class Capital(BaseModel):
    """As users write it: the schema does not say `additionalProperties`."""

    city: Literal["Paris", "Rome"]


@pytest.fixture
def api(base_url: str) -> Iterator[OpenAI]:
    with OpenAI(base_url=base_url, api_key="any", max_retries=0) as client:
        yield client


def goes_on(api: OpenAI, *turns: Any) -> None:
    """The conversation is taken up again, and the model answers."""
    answer = api.chat.completions.create(
        model=MODEL, messages=[*text(CAPITAL), *turns, *text(CAPITAL)], max_tokens=40
    )
    assert answer.choices[0].finish_reason in ("stop", "length")


def test_a_parsed_message(api: OpenAI) -> None:
    answer = api.chat.completions.parse(
        model=MODEL, messages=text(CAPITAL), response_format=Capital, max_tokens=60
    )
    message = answer.choices[0].message
    assert message.parsed is not None
    goes_on(api, message)
    goes_on(api, message.model_dump())


def test_the_message_of_a_stream(api: OpenAI) -> None:
    with api.chat.completions.stream(
        model=MODEL, messages=text(CAPITAL), response_format=Capital, max_tokens=60
    ) as stream:
        message = stream.get_final_completion().choices[0].message
    assert message.parsed is not None
    goes_on(api, message)


def test_parsed_arguments_of_a_call(api: OpenAI) -> None:
    answer = api.chat.completions.parse(
        model=MODEL,
        messages=text(CAPITAL),
        tools=[openai.pydantic_function_tool(Capital, name="say")],
        tool_choice="required",
        parallel_tool_calls=False,
        max_tokens=80,
    )
    message = answer.choices[0].message
    assert message.tool_calls is not None
    (call,) = message.tool_calls
    assert isinstance(call.function.parsed_arguments, Capital)
    goes_on(api, message, {"role": "tool", "tool_call_id": call.id, "content": ""})


def test_the_items_of_a_parsed_response(api: OpenAI) -> None:
    answer = api.responses.parse(
        model=MODEL, input=CAPITAL, text_format=Capital, max_output_tokens=60, store=True
    )
    assert answer.output_parsed is not None
    history: Any = [*text(CAPITAL), *answer.output, *text(CAPITAL)]
    second = api.responses.create(model=MODEL, input=history, max_output_tokens=40)
    assert second.output_text


def test_an_open_schema_ends(api: OpenAI) -> None:
    """As frameworks send it that do not know OpenAI's strict form."""
    form: Any = {
        "type": "json_schema",
        "json_schema": {"name": "capital", "schema": Capital.model_json_schema()},
    }
    answer = api.chat.completions.create(
        model=MODEL, messages=text(CAPITAL), response_format=form, temperature=1.5, max_tokens=200
    )
    content = answer.choices[0].message.content
    assert content is not None and json.loads(content).keys() == {"city"}
    assert answer.choices[0].finish_reason == "stop"


def test_what_cannot_be_enforced_is_named_or_refused(api: OpenAI) -> None:
    schema = {
        "type": "object",
        "properties": {"city": {"type": "string", "format": "city", "maxLength": 5}},
        "required": ["city"],
    }

    def form(**strict: bool) -> Any:
        named = {"name": "capital", "schema": schema, **strict}
        return {"type": "json_schema", "json_schema": named}

    answer = api.chat.completions.with_raw_response.create(
        model=MODEL, messages=text(CAPITAL), response_format=form(), max_tokens=60
    )
    assert answer.headers["x-schema-unenforced"] == "format:city"
    with pytest.raises(openai.BadRequestError, match="city"):
        api.chat.completions.create(
            model=MODEL, messages=text(CAPITAL), response_format=form(strict=True)
        )


def test_anthropics_parsed_message(demo: Service) -> None:
    with anthropic.Anthropic(base_url=demo.url, api_key="any", max_retries=0) as client:
        answer = client.messages.parse(
            model=MODEL, max_tokens=60, messages=text(CAPITAL), output_format=Capital
        )
        assert answer.parsed_output is not None
        history: Any = [
            *text(CAPITAL),
            {"role": "assistant", "content": answer.content},
            *text(CAPITAL),
        ]
        second = client.messages.create(model=MODEL, max_tokens=40, messages=history)
    assert second.content


def test_several_prompts_of_a_completion(api: OpenAI) -> None:
    answer = api.completions.create(model=MODEL, prompt=["Once", "Twice"], n=2, max_tokens=3)
    assert [choice.index for choice in answer.choices] == [0, 1, 2, 3]


@pytest.mark.parametrize("suffix", ["/", "/v1", "//"])
def test_a_base_url_that_is_not_quite_right(base_url: str, suffix: str) -> None:
    with OpenAI(base_url=base_url + suffix, api_key="any", max_retries=0) as client:
        answer = client.chat.completions.create(model=MODEL, messages=text(CAPITAL))
    assert answer.choices[0].message.content == CAPITAL_ANSWER


def test_a_base_url_without_a_version(demo: Service) -> None:
    with OpenAI(base_url=demo.url, api_key="any", max_retries=0) as client:
        answer = client.chat.completions.create(model=MODEL, messages=text(CAPITAL))
    assert answer.choices[0].message.content == CAPITAL_ANSWER


def test_a_conversation_that_is_too_long_is_known_as_such(api: OpenAI, demo: Service) -> None:
    """By the words that litellm, OpenCode and Claude Code look for."""
    long: Any = text("word " * 20_000)
    with pytest.raises(openai.BadRequestError, match=r"maximum context length is \d+ tokens"):
        api.chat.completions.create(model=MODEL, messages=long)
    with (
        anthropic.Anthropic(base_url=demo.url, api_key="any", max_retries=0) as client,
        pytest.raises(
            anthropic.BadRequestError, match=r"prompt is too long: \d+ tokens > \d+ maximum"
        ),
    ):
        client.messages.create(model=MODEL, max_tokens=5, messages=long)

"""LangChain's ChatOpenAI."""

from __future__ import annotations

from typing import Any

import pytest
from langchain_core.messages import HumanMessage, ToolMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI
from pydantic import SecretStr

from tests.clients.asking import (
    CAPITAL,
    CAPITAL_ANSWER,
    COUNT,
    COUNT_ANSWER,
    MODEL,
    PICTURE,
    PICTURE_URL,
    Shape,
)


@pytest.fixture
def chat(base_url: str) -> ChatOpenAI:
    return ChatOpenAI(base_url=base_url, api_key=SecretStr("any"), model=MODEL, max_retries=0)


@tool
def get_capital(country: str) -> str:
    """Look up the capital of a country."""
    return "Paris"


def test_invoke(chat: ChatOpenAI) -> None:
    answer = chat.invoke(CAPITAL)
    assert answer.text == CAPITAL_ANSWER
    assert answer.usage_metadata is not None and answer.usage_metadata["output_tokens"] > 0


def test_stream(chat: ChatOpenAI) -> None:
    chunks = list(chat.stream(CAPITAL, stream_usage=True))
    assert len(chunks) > 2
    assert "".join(chunk.text for chunk in chunks) == CAPITAL_ANSWER
    assert any(chunk.usage_metadata for chunk in chunks)


async def test_async_batch(chat: ChatOpenAI) -> None:
    answers = await chat.abatch([CAPITAL, "What is the capital of Japan?"])
    assert [answer.text for answer in answers] == [CAPITAL_ANSWER, "The capital of Japan is Tokyo."]


@pytest.mark.parametrize(
    "picture",
    [
        {"type": "image_url", "image_url": {"url": PICTURE_URL}},
        {"type": "image", "base64": PICTURE, "mime_type": "image/png"},
    ],
    ids=["OpenAI's part", "LangChain's part"],
)
def test_a_picture(chat: ChatOpenAI, picture: dict[str, Any]) -> None:
    message = HumanMessage(content=[picture, {"type": "text", "text": COUNT}])
    assert chat.invoke([message]).text == COUNT_ANSWER


@pytest.mark.parametrize("method", ["json_schema", "function_calling"])
def test_structured_output(chat: ChatOpenAI, method: Any) -> None:
    structured = chat.with_structured_output(Shape, method=method, strict=True)
    assert isinstance(structured.invoke("What is it?"), Shape)


def test_a_forced_call_and_its_answer(chat: ChatOpenAI) -> None:
    bound = chat.bind_tools([get_capital], tool_choice="get_capital", parallel_tool_calls=False)
    asked = HumanMessage(content=CAPITAL)
    called = bound.invoke([asked], max_tokens=300)
    names = [call["name"] for call in (*called.tool_calls, *called.invalid_tool_calls)]
    assert names == ["get_capital"]
    if called.tool_calls:
        result = ToolMessage("Paris", tool_call_id=called.tool_calls[0]["id"])
        assert chat.invoke([asked, called, result], max_tokens=60).text


def test_the_responses_api(base_url: str) -> None:
    chat = ChatOpenAI(
        base_url=base_url, api_key=SecretStr("any"), model=MODEL, use_responses_api=True
    )
    assert chat.invoke(CAPITAL).text == CAPITAL_ANSWER
    assert "".join(chunk.text for chunk in chat.stream(CAPITAL)) == CAPITAL_ANSWER

# /// script
# dependencies = ["haystack-ai==3.4.1"]
# ///
"""Haystack's OpenAIChatGenerator."""

import json
from typing import Any

from haystack.components.generators.chat import OpenAIChatGenerator
from haystack.dataclasses import ChatMessage, ImageContent
from haystack.tools import create_tool_from_function
from haystack.utils import Secret
from shape import Shape
from trials import (
    API_KEY,
    BASE_URL,
    CAPITAL,
    COUNT,
    ENOUGH_TOKENS,
    MODEL,
    PICTURE,
    TOO_HOT,
    get_capital,
    tell,
    used_tool,
)

chat = OpenAIChatGenerator(
    api_key=Secret.from_token(API_KEY), model=MODEL, api_base_url=BASE_URL, max_retries=0
)


def ask(*messages: ChatMessage, stream: Any = None, tools: Any = None, **more: Any) -> ChatMessage:
    options = {"max_tokens": ENOUGH_TOKENS, **more}
    turns = list(messages) or [ChatMessage.from_user(CAPITAL)]
    answer = chat.run(turns, streaming_callback=stream, generation_kwargs=options, tools=tools)
    return answer["replies"][0]


def text() -> str | None:
    return ask().text


def picture() -> str | None:
    parts = [COUNT, ImageContent.from_file_path(PICTURE)]
    return ask(ChatMessage.from_user(content_parts=parts)).text


def stream() -> str:
    pieces: list[str] = []
    ask(stream=lambda chunk: pieces.append(chunk.content))
    return "".join(pieces)


def structured() -> Any:
    return json.loads(ask(response_format=Shape).text or "")


def tool() -> Any:
    tools = [create_tool_from_function(get_capital)]
    asked = ask(tools=tools, tool_choice="required", parallel_tool_calls=False)
    (call,) = asked.tool_calls
    result = ChatMessage.from_tool(get_capital(**call.arguments), origin=call)
    turns = [ChatMessage.from_user(CAPITAL), asked, result]
    return used_tool(ask(*turns, tools=tools, tool_choice="none").text or "")


def error() -> Any:
    return ask(temperature=TOO_HOT).text


tell(text=text, picture=picture, stream=stream, structured=structured, tool=tool, error=error)

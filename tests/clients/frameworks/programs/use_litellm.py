# /// script
# dependencies = ["litellm==1.110.2"]
# ///
"""litellm: the SDK, which its proxy and many frameworks are built upon."""

import json
from typing import Any

import litellm
from shape import Shape
from trials import (
    API_KEY,
    BASE_URL,
    CAPITAL,
    COUNT,
    ENOUGH_TOKENS,
    MODEL,
    PICTURE_URL,
    TOO_HOT,
    get_capital,
    tell,
    used_tool,
)

COUNTRY = {
    "type": "object",
    "properties": {"country": {"type": "string", "enum": ["France", "Japan"]}},
    "required": ["country"],
}
TOOL = {"type": "function", "function": {"name": "get_capital", "parameters": COUNTRY}}


def ask(*messages: Any, **more: Any) -> Any:
    return litellm.completion(
        model=f"openai/{MODEL}",
        api_base=BASE_URL,
        api_key=API_KEY,
        messages=[{"role": "user", "content": CAPITAL}, *messages],
        max_tokens=ENOUGH_TOKENS,
        num_retries=0,
        **more,
    )


def text() -> str:
    return ask().choices[0].message.content


def picture() -> str:
    part = {"type": "image_url", "image_url": {"url": PICTURE_URL, "format": "image/png"}}
    content = [{"type": "text", "text": COUNT}, part]
    return ask({"role": "user", "content": content}).choices[0].message.content


def stream() -> str:
    return "".join(chunk.choices[0].delta.content or "" for chunk in ask(stream=True))


def structured() -> Any:
    return json.loads(ask(response_format=Shape).choices[0].message.content)


def tool() -> Any:
    message = (
        ask(tools=[TOOL], tool_choice="required", parallel_tool_calls=False).choices[0].message
    )
    (call,) = message.tool_calls
    result = get_capital(**json.loads(call.function.arguments))
    answer = {"role": "tool", "tool_call_id": call.id, "content": result}
    return used_tool(
        ask(message, answer, tools=[TOOL], tool_choice="none").choices[0].message.content
    )


def error() -> Any:
    return ask(temperature=TOO_HOT)


tell(text=text, picture=picture, stream=stream, structured=structured, tool=tool, error=error)

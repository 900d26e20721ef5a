# /// script
# dependencies = ["smolagents[openai]==1.26.0"]
# ///
"""smolagents' OpenAIModel; results of tools it sends as text, as its agents do."""

import io
import json
from typing import Any

import PIL.Image
from smolagents import OpenAIModel
from smolagents import tool as smol_tool
from trials import (
    API_KEY,
    BASE_URL,
    CAPITAL,
    COUNT,
    ENOUGH_TOKENS,
    MODEL,
    PICTURE_BYTES,
    TOO_HOT,
    get_capital,
    tell,
    used_tool,
)

SHAPE = {
    "type": "object",
    "properties": {
        "kind": {"type": "string", "enum": ["circle", "square"]},
        "color": {"type": "string", "enum": ["red", "blue"]},
    },
    "required": ["kind", "color"],
}
model = OpenAIModel(MODEL, api_base=BASE_URL, api_key=API_KEY, max_tokens=ENOUGH_TOKENS)
asked: Any = {"role": "user", "content": [{"type": "text", "text": CAPITAL}]}


def text() -> Any:
    return model([asked]).content


def picture() -> Any:
    image = {"type": "image", "image": PIL.Image.open(io.BytesIO(PICTURE_BYTES))}
    content = [{"type": "text", "text": COUNT}, image]
    return model([{"role": "user", "content": content}]).content


def stream() -> str:
    return "".join(delta.content or "" for delta in model.generate_stream([asked]))


def structured() -> Any:
    form = {"type": "json_schema", "json_schema": {"name": "shape", "schema": SHAPE}}
    return json.loads(model([asked], response_format=form).content)


def tool() -> Any:
    tools: Any = [smol_tool(get_capital)]
    answer = model.generate([asked], tools_to_call_from=tools, parallel_tool_calls=False)
    (call,) = answer.tool_calls
    arguments = call.function.arguments
    result = get_capital(**(json.loads(arguments) if isinstance(arguments, str) else arguments))
    turns = [
        asked,
        {
            "role": "assistant",
            "content": [{"type": "text", "text": f"Calling {call.function.name}"}],
        },
        {"role": "tool-response", "content": [{"type": "text", "text": f"Observation: {result}"}]},
    ]
    return used_tool(model(turns).content)


def error() -> Any:
    return model([asked], temperature=TOO_HOT).content


tell(text=text, picture=picture, stream=stream, structured=structured, tool=tool, error=error)

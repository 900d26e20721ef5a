# /// script
# dependencies = ["llama-index-llms-openai-like==0.8.1"]
# ///
"""LlamaIndex' OpenAILike."""

from typing import Any

from llama_index.core.llms import ChatMessage, ImageBlock, TextBlock
from llama_index.core.prompts import PromptTemplate
from llama_index.core.tools import FunctionTool
from llama_index.llms.openai_like import OpenAILike
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

ASKED = ChatMessage(role="user", content=CAPITAL)


def model(**more: Any) -> OpenAILike:
    return OpenAILike(
        model=MODEL,
        api_base=BASE_URL,
        api_key=API_KEY,
        is_chat_model=True,
        is_function_calling_model=True,
        should_use_structured_outputs=True,
        max_tokens=ENOUGH_TOKENS,
        max_retries=0,
        **more,
    )


def text() -> str | None:
    return model().chat([ASKED]).message.content


def picture() -> str | None:
    blocks = [TextBlock(text=COUNT), ImageBlock(path=PICTURE, image_mimetype="image/png")]
    return model().chat([ChatMessage(role="user", blocks=blocks)]).message.content


def stream() -> str:
    return "".join(chunk.delta or "" for chunk in model().stream_chat([ASKED]))


def structured() -> Any:
    return model().structured_predict(Shape, PromptTemplate(CAPITAL)).model_dump()


def tool() -> Any:
    tools = [FunctionTool.from_defaults(get_capital)]
    asked = model().chat_with_tools(
        tools, user_msg=CAPITAL, tool_required=True, allow_parallel_tool_calls=False
    )
    (call,) = model().get_tool_calls_from_response(asked)
    result = ChatMessage(
        role="tool",
        content=get_capital(**call.tool_kwargs),
        additional_kwargs={"tool_call_id": call.tool_id},
    )
    return used_tool(model().chat([ASKED, asked.message, result]).message.content or "")


def error() -> Any:
    return model(additional_kwargs={"temperature": TOO_HOT}).chat([ASKED]).message.content


tell(text=text, picture=picture, stream=stream, structured=structured, tool=tool, error=error)

# /// script
# dependencies = ["strands-agents[openai]==1.62.0"]
# ///
"""Strands Agents with its model for OpenAI's chat completions."""

from typing import Any

from shape import Shape
from strands import Agent
from strands import tool as strands_tool
from strands.models.openai import OpenAIModel
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


def model(**params: Any) -> OpenAIModel:
    arguments = {"base_url": BASE_URL, "api_key": API_KEY, "max_retries": 0}
    return OpenAIModel(
        client_args=arguments, model_id=MODEL, params={"max_tokens": ENOUGH_TOKENS, **params}
    )


def agent(of: OpenAIModel | None = None, **more: Any) -> Agent:
    return Agent(model=of or model(), callback_handler=None, retry_strategy=None, **more)


def text() -> str:
    return str(agent()(CAPITAL)).strip()


def picture() -> str:
    image = {"image": {"format": "png", "source": {"bytes": PICTURE_BYTES}}}
    return str(agent()([image, {"text": COUNT}])).strip()


async def stream() -> str:
    return "".join([event.get("data", "") async for event in agent().stream_async(CAPITAL)])


def structured() -> Any:
    one_call = model(tool_choice="required", parallel_tool_calls=False)
    return agent(one_call)(CAPITAL, structured_output_model=Shape).structured_output.model_dump()


def tool() -> Any:
    of = model(tool_choice="required", parallel_tool_calls=False)

    def called_once(country: str) -> str:
        of.update_config(params={"max_tokens": ENOUGH_TOKENS, "tool_choice": "none"})
        return get_capital(country)  # type: ignore[arg-type]

    called_once.__doc__ = get_capital.__doc__
    called_once.__annotations__ = get_capital.__annotations__
    return used_tool(str(agent(of, tools=[strands_tool(called_once)])(CAPITAL)).strip())


def error() -> Any:
    return str(agent(model(temperature=TOO_HOT))(CAPITAL))


tell(text=text, picture=picture, stream=stream, structured=structured, tool=tool, error=error)

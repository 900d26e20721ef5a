# /// script
# dependencies = ["pydantic-ai-slim[openai]==2.68.0"]
# ///
"""Pydantic AI over chat completions."""

from typing import Any

from pydantic_ai import Agent, BinaryContent, NativeOutput
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.providers.openai import OpenAIProvider
from shape import Shape
from trials import (
    API_KEY,
    BASE_URL,
    CAPITAL,
    COUNT,
    ENOUGH_TOKENS,
    MODEL,
    PICTURE_BYTES,
    TOO_HOT,
    called,
    get_capital,
    tell,
    used_tool,
)

model = OpenAIChatModel(MODEL, provider=OpenAIProvider(base_url=BASE_URL, api_key=API_KEY))
settings: Any = {"max_tokens": ENOUGH_TOKENS}


def text() -> str:
    return Agent(model).run_sync(CAPITAL, model_settings=settings).output


def picture() -> str:
    parts = [COUNT, BinaryContent(PICTURE_BYTES, media_type="image/png")]
    return Agent(model).run_sync(parts, model_settings=settings).output


async def stream() -> str:
    async with Agent(model).run_stream(CAPITAL, model_settings=settings) as result:
        return "".join([piece async for piece in result.stream_text(delta=True)])


def structured() -> Any:
    outputs: tuple[Any, ...] = (Shape, NativeOutput(Shape))
    agents = [Agent(model, output_type=output) for output in outputs]
    filled = [agent.run_sync(CAPITAL, model_settings=settings).output for agent in agents]
    return filled[-1].model_dump()


def tool() -> Any:
    def choose(_: Any) -> Any:
        """The tool must be called once."""
        return settings | {"tool_choice": "none" if called else "required"}

    agent = Agent(model, tools=[get_capital], model_settings=choose)
    return used_tool(agent.run_sync(CAPITAL).output)


def error() -> Any:
    return Agent(model).run_sync(CAPITAL, model_settings={"temperature": TOO_HOT}).output


tell(text=text, picture=picture, stream=stream, structured=structured, tool=tool, error=error)

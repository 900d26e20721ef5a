# /// script
# dependencies = ["openai-agents==0.24.0"]
# ///
"""openai-agents over the responses API, as it is made, its tracing left out."""

from typing import Any

from agents import Agent, ModelSettings, Runner, function_tool, set_tracing_disabled
from agents.models.openai_responses import OpenAIResponsesModel
from openai import AsyncOpenAI
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

set_tracing_disabled(True)


def agent(*, temperature: float | None = None, tool_choice: Any = None, **more: Any) -> Agent:
    client = AsyncOpenAI(base_url=BASE_URL, api_key=API_KEY, max_retries=0)
    settings = ModelSettings(
        max_tokens=ENOUGH_TOKENS,
        temperature=temperature,
        tool_choice=tool_choice,
        parallel_tool_calls=False if tool_choice else None,
    )
    model = OpenAIResponsesModel(MODEL, openai_client=client)
    return Agent(name="Asker", model=model, model_settings=settings, **more)


async def text() -> Any:
    return (await Runner.run(agent(), CAPITAL)).final_output


async def picture() -> Any:
    parts = [
        {"type": "input_image", "image_url": PICTURE_URL, "detail": "auto"},
        {"type": "input_text", "text": COUNT},
    ]
    return (await Runner.run(agent(), [{"role": "user", "content": parts}])).final_output


async def stream() -> str:
    pieces: list[str] = []
    async for event in Runner.run_streamed(agent(), CAPITAL).stream_events():
        data = getattr(event, "data", None)
        if getattr(data, "type", "") == "response.output_text.delta":
            pieces.append(data.delta)
    return "".join(pieces)


async def structured() -> Any:
    return (await Runner.run(agent(output_type=Shape), CAPITAL)).final_output.model_dump()


async def tool() -> Any:
    """The choice is reset once a tool has been called."""
    asking = agent(tools=[function_tool(get_capital)], tool_choice="required")
    return used_tool((await Runner.run(asking, CAPITAL)).final_output)


async def error() -> Any:
    return (await Runner.run(agent(temperature=TOO_HOT), CAPITAL)).final_output


tell(text=text, picture=picture, stream=stream, structured=structured, tool=tool, error=error)

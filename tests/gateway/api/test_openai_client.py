"""OpenAI's own Python client works unchanged."""

from __future__ import annotations

import openai
import pytest
from openai import AsyncOpenAI
from pydantic import BaseModel

from gateway.errors import NoWorker, QueueFull, WorkerFailed
from shared.messages import ToolCallDelta
from tests.gateway.fake_dispatch import FakeTicket, accepted, delta, done, says
from tests.gateway.serving import Gateway, gateway


def client(running: Gateway) -> AsyncOpenAI:
    return AsyncOpenAI(base_url=f"{running.url}/v1", api_key="any", max_retries=0)


async def test_answers_and_streams() -> None:
    async with gateway(says("Hel", "lo")) as running, client(running) as api:
        complete = await api.chat.completions.create(
            model="m", messages=[{"role": "user", "content": "Hi"}]
        )
        assert complete.choices[0].message.content == "Hello"
        assert complete.usage is not None and complete.usage.total_tokens == 9
        stream = await api.chat.completions.create(
            model="m",
            messages=[{"role": "user", "content": "Hi"}],
            stream=True,
            stream_options={"include_usage": True},
        )
        chunks = [chunk async for chunk in stream]
    texts = [chunk.choices[0].delta.content for chunk in chunks if chunk.choices]
    assert "".join(text or "" for text in texts) == "Hello"
    assert chunks[-1].usage is not None


async def test_parsing_into_a_model() -> None:
    class Scene(BaseModel):
        colour: str

    async with gateway(says('{"colour":', '"red"}')) as running, client(running) as api:
        parsed = await api.chat.completions.parse(
            model="m", messages=[{"role": "user", "content": "?"}], response_format=Scene
        )
        job = running.dispatch.tickets[0].job
    assert parsed.choices[0].message.parsed == Scene(colour="red")
    assert job is not None and job.response_format is not None
    assert job.response_format.schema is not None
    assert job.response_format.schema["properties"]["colour"]["type"] == "string"


async def test_tools_and_their_answers() -> None:
    def script(ticket: FakeTicket) -> None:
        call = ToolCallDelta(0, '{"a":1}', "call_1", "find")
        ticket.tell(accepted(), delta(tool_calls=[call], finish_reason="tool_calls"), done())

    async with gateway(script) as running, client(running) as api:
        messages: list = [{"role": "user", "content": "?"}]  # type: ignore[type-arg]
        answer = await api.chat.completions.create(
            model="m",
            messages=messages,
            tools=[{"type": "function", "function": {"name": "find", "parameters": {}}}],
        )
        message = answer.choices[0].message
        messages.append(message)
        messages.append({"role": "tool", "tool_call_id": "call_1", "content": "found"})
        running.dispatch.script = says("Found.")
        final = await api.chat.completions.create(model="m", messages=messages)
    assert final.choices[0].message.content == "Found."


async def test_errors_arrive_as_the_clients_own() -> None:
    async with gateway(says("x")) as running, client(running) as api:
        ask = api.chat.completions.create
        with pytest.raises(openai.BadRequestError) as caught:
            await ask(model="m", messages=[])
        assert caught.value.param == "messages"
        for refusal, expected in (
            (QueueFull(retry_after_s=1), openai.RateLimitError),
            (NoWorker("none", retry_after_s=1), openai.InternalServerError),
        ):
            running.dispatch.refusal = refusal
            with pytest.raises(expected):
                await ask(model="m", messages=[{"role": "user", "content": "Hi"}])
        running.dispatch.refusal = None

        def breaks(ticket: FakeTicket) -> None:
            ticket.tell(accepted(), delta("Once"))
            ticket.fail(WorkerFailed("broken"))

        running.dispatch.script = breaks
        stream = await ask(model="m", messages=[{"role": "user", "content": "Hi"}], stream=True)
        with pytest.raises(openai.APIError, match="broken"):
            [chunk async for chunk in stream]


async def test_models_and_completions() -> None:
    async with gateway(says("x")) as running, client(running) as api:
        assert [model.id async for model in api.models.list()] == ["org/fake", "demo"]
        assert (await api.models.retrieve("org/fake")).object == "model"
        done_text = await api.completions.create(model="m", prompt="Hi")
    assert done_text.choices[0].text == "x"

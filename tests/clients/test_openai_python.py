"""`openai` for Python: chat, streams, pictures, structured answers, the other endpoints."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from openai import AsyncOpenAI, OpenAI

from tests.clients.asking import (
    CAPITAL,
    CAPITAL_ANSWER,
    CAPTION,
    CAPTION_ANSWER,
    COUNT,
    COUNT_ANSWER,
    MODEL,
    PICTURE_URL,
    Shape,
    about_the_picture,
    text,
)


@pytest.fixture
def api(base_url: str) -> Iterator[OpenAI]:
    with OpenAI(base_url=base_url, api_key="any", max_retries=0) as client:
        yield client


def test_a_question(api: OpenAI) -> None:
    answer = api.chat.completions.create(model=MODEL, messages=text(CAPITAL))
    assert answer.choices[0].message.content == CAPITAL_ANSWER
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage is not None
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens


def test_a_picture(api: OpenAI) -> None:
    answer = api.chat.completions.create(model=MODEL, messages=about_the_picture(CAPTION))
    assert answer.choices[0].message.content == CAPTION_ANSWER


def test_a_stream_with_usage(api: OpenAI) -> None:
    stream = api.chat.completions.create(
        model=MODEL,
        messages=about_the_picture(COUNT),
        stream=True,
        stream_options={"include_usage": True},
    )
    chunks = list(stream)
    assert chunks[0].choices[0].delta.role == "assistant"
    assert "".join(c.choices[0].delta.content or "" for c in chunks if c.choices) == COUNT_ANSWER
    assert chunks[-1].choices == [] and chunks[-1].usage is not None


def test_the_stream_helper(api: OpenAI) -> None:
    with api.chat.completions.stream(model=MODEL, messages=text(CAPITAL)) as stream:
        deltas = [event.delta for event in stream if event.type == "content.delta"]
        final = stream.get_final_completion()
    assert "".join(deltas) == final.choices[0].message.content == CAPITAL_ANSWER


def test_parsing_into_a_model(api: OpenAI) -> None:
    answer = api.chat.completions.parse(
        model=MODEL, messages=about_the_picture("What is it?"), response_format=Shape
    )
    assert isinstance(answer.choices[0].message.parsed, Shape)


async def test_async(base_url: str) -> None:
    async with AsyncOpenAI(base_url=base_url, api_key="any") as api:
        answer = await api.chat.completions.create(model=MODEL, messages=about_the_picture(COUNT))
        assert answer.choices[0].message.content == COUNT_ANSWER
        stream = await api.chat.completions.create(model=MODEL, messages=text(CAPITAL), stream=True)
        pieces = [chunk.choices[0].delta.content or "" async for chunk in stream]
    assert "".join(pieces) == CAPITAL_ANSWER


def test_log_probabilities(api: OpenAI) -> None:
    answer = api.chat.completions.create(
        model=MODEL, messages=text(CAPITAL), logprobs=True, top_logprobs=2
    )
    logprobs = answer.choices[0].logprobs
    assert logprobs is not None and logprobs.content is not None
    assert b"".join(bytes(token.bytes or []) for token in logprobs.content) == (
        CAPITAL_ANSWER.encode()
    )
    assert all(len(token.top_logprobs) == 2 for token in logprobs.content)


def test_models(api: OpenAI) -> None:
    assert [model.id for model in api.models.list()] == [MODEL]
    assert api.models.retrieve(MODEL).id == MODEL


def test_text_completions(api: OpenAI) -> None:
    whole = api.completions.create(model=MODEL, prompt="The capital of", max_tokens=4)
    stream = api.completions.create(model=MODEL, prompt="The capital of", max_tokens=4, stream=True)
    assert whole.choices[0].text == "".join(chunk.choices[0].text for chunk in stream)


def test_responses(api: OpenAI) -> None:
    assert api.responses.create(model=MODEL, input=CAPITAL).output_text == CAPITAL_ANSWER
    picture = {"type": "input_image", "image_url": PICTURE_URL, "detail": "auto"}
    question = {"type": "input_text", "text": COUNT}
    turn = {"role": "user", "content": [picture, question]}
    answer = api.responses.create(model=MODEL, input=[turn])  # type: ignore[list-item]
    assert answer.output_text == COUNT_ANSWER
    parsed = api.responses.parse(model=MODEL, input="What is it?", text_format=Shape)
    assert isinstance(parsed.output_parsed, Shape)


def test_a_stream_of_a_response(api: OpenAI) -> None:
    with api.responses.stream(model=MODEL, input=CAPITAL) as stream:
        deltas = [event.delta for event in stream if event.type == "response.output_text.delta"]
        final = stream.get_final_response()
    assert "".join(deltas) == final.output_text == CAPITAL_ANSWER
    assert final.status == "completed"

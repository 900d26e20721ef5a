"""Pictures as clients write them, in every dialect: what reaches the worker."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from shared.messages import ImagePart, TextPart
from tests.gateway.fake_dispatch import FakeTicket, says
from tests.gateway.images.pictures import data_url, drawn
from tests.gateway.serving import gateway

PICTURE = drawn("PNG")
BASE64 = base64.b64encode(PICTURE).decode()
IN_LINES = base64.encodebytes(PICTURE).decode()

Body = tuple[str, dict[str, Any]]


def chat(*parts: Any) -> Body:
    return "/v1/chat/completions", {"messages": [{"role": "user", "content": list(parts)}]}


def chat_image(url: str, **fields: Any) -> Body:
    return chat({"type": "image_url", "image_url": {"url": url, **fields}, "uuid": "u1"})


def responses(*parts: Any) -> Body:
    return "/v1/responses", {"input": [{"role": "user", "content": list(parts)}]}


def messages(*blocks: Any) -> Body:
    message = {"role": "user", "content": list(blocks)}
    return "/v1/messages", {"max_tokens": 5, "messages": [message]}


def block(data: str, media_type: str = "image/png") -> dict[str, Any]:
    source = {"type": "base64", "media_type": media_type, "data": data}
    return {"type": "image", "source": source}


async def asked(body: Body) -> FakeTicket:
    """Return the ticket of a request that must go well."""
    path, fields = body
    async with gateway(says("x")) as running:
        response = await running.client.post(path, json=fields)
        assert response.status_code == 200, response.text
        return running.dispatch.tickets[0]


AS_WRITTEN = {
    "chat": chat_image(data_url(PICTURE)),
    "a string in chat": chat({"type": "image_url", "image_url": data_url(PICTURE)}),
    "a key that some tools add": chat_image(data_url(PICTURE), format="image/png"),
    "lines of 76": chat_image(f"data:image/png;base64,{IN_LINES}"),
    "base64 alone": chat_image(BASE64),
    "base64 alone, in lines": chat_image(IN_LINES),
    "a blank before": chat_image(f" {data_url(PICTURE)}\n"),
    "responses": responses({"type": "input_image", "image_url": data_url(PICTURE)}),
    "base64 alone in responses": responses({"type": "input_image", "image_url": BASE64}),
    "messages": messages(block(BASE64)),
    "lines in messages": messages(block(IN_LINES)),
    "a data URL in messages": messages(block(data_url(PICTURE))),
    "another media type in messages": messages(block(BASE64, "image/jpg")),
    "a data URL as a URL in messages": messages(
        {"type": "image", "source": {"type": "url", "url": data_url(PICTURE)}}
    ),
}


@pytest.mark.parametrize("name", AS_WRITTEN)
async def test_the_picture_is_seen(name: str) -> None:
    ticket = await asked(AS_WRITTEN[name])
    assert list(ticket.images) == [PICTURE]


CALLS = [
    {"id": name, "type": "function", "function": {"name": "look", "arguments": "{}"}}
    for name in ("a", "b")
]
IMAGE = {"type": "image_url", "image_url": {"url": data_url(PICTURE)}}
ANSWERED = [
    {"role": "user", "content": "Look."},
    {"role": "assistant", "tool_calls": CALLS},
    {"role": "tool", "tool_call_id": "a", "content": [{"type": "text", "text": "Here:"}, IMAGE]},
    {"role": "tool", "tool_call_id": "b", "content": [IMAGE]},
]


@pytest.mark.parametrize(
    ("then", "roles", "shown"),
    [
        ([], ["user"], 4),
        ([{"role": "user", "content": "So?"}], ["user"], 4),
        (
            [{"role": "assistant", "content": "I see."}, {"role": "user", "content": "So?"}],
            ["user", "assistant", "user"],
            4,
        ),
        (
            [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "So?"}],
            ["user", "system", "user"],
            4,
        ),
    ],
    ids=["at the end", "before a question", "before an answer", "before a system message"],
)
async def test_a_tools_pictures_are_shown_after_all_results(
    then: list[Any], roles: list[str], shown: int
) -> None:
    ticket = await asked(("/v1/chat/completions", {"messages": [*ANSWERED, *then]}))
    assert list(ticket.images) == [PICTURE, PICTURE]
    assert ticket.job is not None
    turns = ticket.job.messages
    assert [turn.role for turn in turns] == ["user", "assistant", "tool", "tool", *roles]
    assert turns[2].content == [TextPart(text="Here:")]
    assert turns[3].content == []
    assert turns[shown].content[:2] == [ImagePart(index=0), ImagePart(index=1)]

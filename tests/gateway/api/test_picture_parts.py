"""Pictures as clients write them, in every dialect: what reaches the worker."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from shared.messages import ImagePart, TextPart
from tests.gateway.fake_dispatch import FakeTicket, says
from tests.gateway.images.pictures import data_url, drawn, pages
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


IMAGE = {"type": "image_url", "image_url": {"url": data_url(PICTURE)}}
PDF = pages([(40, 30), (30, 40)])
PDF_BASE64 = base64.b64encode(PDF).decode()
PDF_URL = data_url(PDF, "application/pdf")
BEFORE, AFTER = {"type": "text", "text": "Read:"}, {"type": "text", "text": "So?"}


def chat_file(**fields: Any) -> Any:
    return {"type": "file", "file": {"filename": "a.pdf", **fields}}


def document(source: Any, **fields: Any) -> Any:
    return {"type": "document", "source": source, **fields}


def pdf_source() -> Any:
    return {"type": "base64", "media_type": "application/pdf", "data": PDF_BASE64}


DOCUMENTS = {
    "chat": chat(BEFORE, chat_file(file_data=PDF_URL), AFTER),
    "base64 alone in chat": chat(BEFORE, chat_file(file_data=PDF_BASE64, file_id=None), AFTER),
    "a PDF as an image in chat": chat(
        BEFORE, {"type": "image_url", "image_url": {"url": PDF_URL}}, AFTER
    ),
    "responses": responses(
        {"type": "input_text", "text": "Read:"},
        {"type": "input_file", "filename": "a.pdf", "file_data": PDF_URL},
        {"type": "input_text", "text": "So?"},
    ),
    "a URL in responses": responses(
        {"type": "input_text", "text": "Read:"},
        {"type": "input_file", "file_url": PDF_URL},
        {"type": "input_text", "text": "So?"},
    ),
    "messages": messages(BEFORE, document(pdf_source(), citations={"enabled": False}), AFTER),
    "a URL in messages": messages(BEFORE, document({"type": "url", "url": PDF_URL}), AFTER),
    "a title in messages": messages(document(pdf_source(), title="Read:"), AFTER),
}


@pytest.mark.process
@pytest.mark.parametrize("name", DOCUMENTS)
async def test_a_documents_pages_stand_where_it_stood(name: str) -> None:
    ticket = await asked(DOCUMENTS[name])
    assert ticket.job is not None
    before, *shown, after = ticket.job.messages[-1].content
    assert shown == [ImagePart(index=0), ImagePart(index=1)]
    assert isinstance(before, TextPart) and before.text.strip() == "Read:"
    assert after == TextPart(text="So?")
    assert [(info.width_px, info.height_px) for info in ticket.job.images] == [(80, 60), (60, 80)]
    assert len(ticket.images) == 2


@pytest.mark.process
async def test_pictures_after_a_document_keep_their_places() -> None:
    ticket = await asked(chat(IMAGE, chat_file(file_data=PDF_URL), AFTER, IMAGE))
    assert ticket.job is not None
    assert ticket.job.messages[0].content == [
        ImagePart(index=0),
        ImagePart(index=1),
        ImagePart(index=2),
        TextPart(text="So?"),
        ImagePart(index=3),
    ]
    assert [ticket.images[0], ticket.images[3]] == [PICTURE, PICTURE]


@pytest.mark.parametrize(
    "source",
    [
        {"type": "text", "media_type": "text/plain", "data": "Paris."},
        {"type": "content", "content": "Paris."},
        {"type": "content", "content": [{"type": "text", "text": "Paris."}]},
    ],
)
async def test_a_document_of_text_is_read(source: Any) -> None:
    ticket = await asked(messages(document(source, title="Capitals", context="A list.")))
    assert ticket.job is not None
    texts = [part.text for part in ticket.job.messages[0].content if isinstance(part, TextPart)]
    assert texts == ["Capitals\n", "A list.\n", "Paris."]


@pytest.mark.process
async def test_pages_count_as_images() -> None:
    body = chat(IMAGE, chat_file(file_data=PDF_URL), AFTER)
    async with gateway(says("x"), max_images=2) as running:
        response = await running.client.post(body[0], json=body[1])
    error = response.json()["error"]
    assert (response.status_code, error["code"]) == (400, "invalid_image")
    assert error["param"] == "messages[0].content[1].file.file_data"
    assert "more than 2 images" in error["message"]


@pytest.mark.parametrize(
    ("body", "param"),
    [
        (chat(chat_file(file_id="f1")), "messages[0].content[0].file.file_id"),
        (chat(chat_file()), "messages[0].content[0].file.file_data"),
        (
            chat(chat_file(file_id="f1", file_data=PDF_URL)),
            "messages[0].content[0].file.file_id",
        ),
        (chat(chat_file(file_data="hello")), "messages[0].content[0].file.file_data"),
        (
            responses({"type": "input_file", "filename": "a.pdf"}),
            "input[0].content[0].file_data",
        ),
        (
            responses({"type": "input_file", "file_id": "f"}),
            "input[0].content[0].file_id",
        ),
        (
            responses({"type": "input_file", "file_data": PDF_URL, "file_url": PDF_URL}),
            "input[0].content[0].file_url",
        ),
        (
            messages(document({"type": "file", "file_id": "f"})),
            "messages[0].content[0].source.type",
        ),
        (
            messages(document(pdf_source(), citations={"enabled": True})),
            "messages[0].content[0].citations",
        ),
    ],
)
async def test_a_document_that_cannot_be_had_is_named(body: Body, param: str) -> None:
    async with gateway(says("x")) as running:
        response = await running.client.post(body[0], json=body[1])
    assert response.status_code == 400, response.text
    assert param in response.text


LOW = {
    "chat": chat_image(data_url(PICTURE), detail="low"),
    "responses": responses(
        {"type": "input_image", "image_url": data_url(PICTURE), "detail": "low"}
    ),
}


@pytest.mark.parametrize("name", LOW)
async def test_low_detail_bounds_the_sides(name: str) -> None:
    ticket = await asked(LOW[name])
    assert ticket.job is not None
    assert [info.longest_side_px for info in ticket.job.images] == [512]


@pytest.mark.parametrize("detail", ["auto", "high", "original", None])
async def test_any_other_detail_is_the_models_own(detail: str | None) -> None:
    ticket = await asked(chat_image(data_url(PICTURE), detail=detail))
    assert ticket.job is not None
    assert [info.longest_side_px for info in ticket.job.images] == [None]


ALL_DIALECTS = [
    chat(IMAGE),
    responses({"type": "input_image", "image_url": data_url(PICTURE)}),
    messages(block(BASE64)),
]


@pytest.mark.parametrize("body", ALL_DIALECTS, ids=lambda body: str(body[0]))
@pytest.mark.parametrize(
    "fields",
    [
        {"min_pixels": 100, "max_pixels": 2000},
        {"mm_processor_kwargs": {"min_pixels": 100, "max_pixels": 2000}},
        {"min_pixels": 100, "mm_processor_kwargs": {"max_pixels": 2000}},
    ],
)
async def test_bounds_on_pixels_reach_the_worker(body: Body, fields: dict[str, Any]) -> None:
    ticket = await asked((body[0], body[1] | fields))
    assert ticket.job is not None
    assert (ticket.job.min_pixels, ticket.job.max_pixels) == (100, 2000)


@pytest.mark.parametrize(
    ("body", "param"),
    [
        (chat(IMAGE | {"max_pixels": 100}), "messages[0].content[0].max_pixels"),
        (("/v1/chat/completions", chat(IMAGE)[1] | {"max_pixels": 0}), "max_pixels"),
        (
            (
                "/v1/chat/completions",
                chat(IMAGE)[1] | {"max_pixels": 5, "mm_processor_kwargs": {"max_pixels": 6}},
            ),
            "mm_processor_kwargs.max_pixels",
        ),
        (
            (
                "/v1/chat/completions",
                chat(IMAGE)[1] | {"mm_processor_kwargs": {"do_resize": False}},
            ),
            "mm_processor_kwargs.do_resize",
        ),
    ],
)
async def test_bounds_that_cannot_be_kept_are_named(body: Body, param: str) -> None:
    async with gateway(says("x")) as running:
        response = await running.client.post(body[0], json=body[1])
    assert response.status_code == 400, response.text
    assert response.json()["error"]["param"] == param


CALLS = [
    {"id": name, "type": "function", "function": {"name": "look", "arguments": "{}"}}
    for name in ("a", "b")
]
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

# /// script
# dependencies = ["instructor==1.17.0"]
# ///
"""instructor: forms by pydantic; text and tools are `openai`'s, which it wraps."""

from typing import Any

import instructor
from openai import OpenAI
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
    tell,
)

api = OpenAI(base_url=BASE_URL, api_key=API_KEY, max_retries=0)


def fill(mode: instructor.Mode, content: Any = CAPITAL, **more: Any) -> Any:
    client = instructor.from_openai(api, mode=mode)
    return client.create(
        model=MODEL,
        messages=[{"role": "user", "content": content}],
        max_tokens=ENOUGH_TOKENS,
        max_retries=0,
        **more,
    )


def structured() -> Any:
    modes = (instructor.Mode.TOOLS, instructor.Mode.TOOLS_STRICT, instructor.Mode.JSON_SCHEMA)
    return [fill(mode, response_model=Shape).model_dump() for mode in modes][-1]


def picture() -> str:
    return (
        fill(
            instructor.Mode.JSON_SCHEMA,
            [COUNT, instructor.Image.from_url(PICTURE_URL)],
            response_model=None,
        )
        .choices[0]
        .message.content
    )


def text() -> str:
    return fill(instructor.Mode.JSON_SCHEMA, response_model=None).choices[0].message.content


def stream() -> Any:
    client = instructor.from_openai(api, mode=instructor.Mode.JSON_SCHEMA)
    partials = client.create_partial(
        model=MODEL,
        messages=[{"role": "user", "content": CAPITAL}],
        max_tokens=ENOUGH_TOKENS,
        response_model=Shape,
        max_retries=0,
    )
    return [partial.model_dump() for partial in partials][-1]


def error() -> Any:
    return fill(instructor.Mode.JSON_SCHEMA, response_model=Shape, temperature=TOO_HOT)


tell(text=text, picture=picture, stream=stream, structured=structured, error=error)

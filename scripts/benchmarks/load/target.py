"""What servers are asked, in OpenAI's dialect."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from PIL import Image

PATH = "/v1/chat/completions"

NUMBER = "{{number}}"
"""Stands in a body where each request gets a number of its own, so that no cache can help."""

PICTURE = "{{picture}}"
"""Stands in a body where each request gets another one of the target's pictures."""

PICTURES = 1024
"""Different ones: more than one server's turn asks for, so that nobody has seen one before."""

SIZE = (300, 200)


@dataclass(frozen=True)
class Target:
    """Where to send which body. `events`: server-sent events of one answer, 0 when it is whole;
    `pictures`: data URLs."""

    url: str
    body: str
    events: int = 0
    pictures: Sequence[str] = ()

    def body_of(self, number: int) -> str:
        """The body of the request with this number."""
        text = self.body.replace(NUMBER, str(number))
        if self.pictures:
            text = text.replace(PICTURE, self.pictures[number % len(self.pictures)])
        return text


@dataclass(frozen=True)
class Case:
    name: str
    tokens: int
    stream: bool = False
    image: bool = False


CASES = (
    Case("1 token", 1),
    Case("64 tokens", 64),
    Case("64 tokens, streamed", 64, stream=True),
    Case("1 image, 16 tokens", 16, image=True),
)


def target(case: Case, url: str, model: str | None) -> Target:
    """`url` has no path; `model` None: the server's only one."""
    asked = body(case) if model is None else {"model": model, **body(case)}
    return Target(
        url + PATH,
        json.dumps(asked),
        events=case.tokens if case.stream else 0,
        pictures=pictures() if case.image else (),
    )


def question(number: int | str) -> str:
    return f"Question {number}: what is to be seen here?"


def body(case: Case) -> dict[str, Any]:
    text = question(NUMBER)
    content: str | list[dict[str, Any]] = text
    if case.image:
        image = {"type": "image_url", "image_url": {"url": PICTURE}}
        content = [image, {"type": "text", "text": text}]
    return {
        "messages": [{"role": "user", "content": content}],
        "max_tokens": case.tokens,
        "temperature": 0,
        "stream": case.stream,
    }


@cache
def pictures() -> Sequence[str]:
    """PNGs of 300 by 200 pixels as data URLs, no two the same."""
    gradient = Image.linear_gradient("L").resize(SIZE).convert("RGB")
    return [_data_url(gradient, number) for number in range(PICTURES)]


def _data_url(background: Image.Image, number: int) -> str:
    picture = background.copy()
    colour = (number % 256, number // 256, 128)
    picture.paste(colour, (40, 40, 160, 120))
    data = io.BytesIO()
    picture.save(data, "PNG", compress_level=1)
    return "data:image/png;base64," + base64.b64encode(data.getvalue()).decode()

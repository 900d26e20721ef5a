"""What the tests of all clients ask, and the one right answer of the demo model."""

from __future__ import annotations

import base64
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from scripts.demo_model import answers
from scripts.demo_model.scenes import example_scene
from tests.processes import ROOT

MODEL = "demo"
CAPITAL, CAPITAL_ANSWER = "What is the capital of France?", "The capital of France is Paris."
CAPTION, CAPTION_ANSWER = "What is in this image?", answers.caption(example_scene())
COUNT, COUNT_ANSWER = "How many shapes are there?", "There are two shapes."

PICTURE_PATH = ROOT / "docs" / "example.png"
PICTURE = base64.b64encode(PICTURE_PATH.read_bytes()).decode()
PICTURE_URL = f"data:image/png;base64,{PICTURE}"

COUNTRY_SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {"country": {"type": "string", "enum": ["France", "Japan"]}},
    "required": ["country"],
    "additionalProperties": False,
}


class Shape(BaseModel):
    """What a structured answer is made to be: short and closed, so that a small model ends it."""

    model_config = ConfigDict(extra="forbid")

    kind: Literal["circle", "square"]
    color: Literal["red", "blue"]


def about_the_picture(question: str) -> list[Any]:
    """OpenAI's messages with the README's picture."""
    picture = {"type": "image_url", "image_url": {"url": PICTURE_URL}}
    return [{"role": "user", "content": [picture, {"type": "text", "text": question}]}]


def text(question: str) -> list[Any]:
    return [{"role": "user", "content": question}]


def chat_tool(name: str) -> Any:
    """A function of one argument, as chat completions declare it."""
    function = {"name": name, "parameters": COUNTRY_SCHEMA, "strict": True}
    return {"type": "function", "function": function}

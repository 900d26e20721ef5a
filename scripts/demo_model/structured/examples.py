"""Requests beyond plain questions: an answer in JSON, a call that is forced, a chat app's prompts.

`Example.request` has what of the request is not the conversation.
"""

import json
import random
from typing import Any

from scripts.demo_model.questions import (
    Draw,
    Example,
    Message,
    ask_one_image,
    system_messages,
    user_message,
)
from scripts.demo_model.scenes import random_scene
from scripts.demo_model.small_talk import FALLBACK, text_only
from scripts.demo_model.structured.fields import chosen, filled, named, object_schema
from scripts.demo_model.structured.foreign import foreign_text
from scripts.demo_model.structured.tools import Tool, random_tools, topic_for
from scripts.demo_model.structured.topics import PHRASES, Fact, about_capital, scene_topic

TEXT_SHARE = 0.2  # of questions that need no image


def json_answer(rng: random.Random, draw: Draw = random_scene) -> Example:
    """A question whose answer is to be an object with one to four fields."""
    topic, scenes = about_capital(rng), []
    if rng.random() > TEXT_SHARE:
        scenes = [draw(rng)]
        topic = scene_topic(scenes[0], rng)
    fields = named(chosen(topic.asked, topic.facts, rng), rng)
    facts = topic.facts
    if rng.random() < 0.1:
        fields, facts = named(["sentence"], rng), {"sentence": topic.sentence}
    form = {"name": "answer", "schema": object_schema(fields, facts, rng)}
    request = {"response_format": {"type": "json_schema", "json_schema": form}}
    question = topic.question
    if rng.random() < 0.3:
        question = f"{question.rstrip()} {rng.choice(PHRASES['json_requests'])}"
    messages = [*system_messages(rng), user_message(question, len(scenes), rng)]
    return Example("json", messages, scenes, as_json(filled(fields, facts)), request)


def tool_examples(
    number: int, call_share: float, rng: random.Random, draw: Draw = random_scene
) -> list[Example]:
    """Questions with the same tools and the same system message: for this share of them one of the
    tools must be called, the others are answered in words."""
    tools, opening = random_tools(rng), system_messages(rng)
    make = [forced_call if rng.random() < call_share else beside_tools for _ in range(number)]
    return [one(tools, opening, rng, draw) for one in make]


def forced_call(
    tools: list[Tool], opening: list[Message], rng: random.Random, draw: Draw
) -> Example:
    """A question for which one of the tools must be called."""
    tool = rng.choice(tools)
    topic, scenes = topic_for(tool, tools, rng, draw)
    choice: Any = "required"
    if rng.random() < 0.35:
        choice = {"type": "function", "function": {"name": tool.name}}
    request: dict[str, Any] = {"tools": declarations(tools), "tool_choice": choice}
    if rng.random() < 0.2:
        request["parallel_tool_calls"] = False
    messages = [*opening, user_message(topic.question, len(scenes), rng)]
    answer = as_json([{"name": tool.name, "arguments": filled(tool.fields, topic.facts)}])
    return Example("forced calls", messages, scenes, answer, request)


def beside_tools(
    tools: list[Tool], opening: list[Message], rng: random.Random, draw: Draw
) -> Example:
    """A question that is answered in words though there are tools, or after the call of one."""
    tool = rng.choice(tools)
    topic, scenes = topic_for(tool, tools, rng, draw)
    messages = [*opening, user_message(topic.question, len(scenes), rng)]
    if rng.random() < 0.5:
        messages += called(tool, filled(tool.fields, topic.facts), rng)
    request = {"tools": declarations(tools)}
    return Example("beside tools", messages, scenes, topic.sentence, request)


def declarations(tools: list[Tool]) -> list[dict[str, Any]]:
    """As in a request."""
    return [tool.declaration for tool in tools]


def called(tool: Tool, arguments: dict[str, Fact], rng: random.Random) -> list[Message]:
    """A call and what came of it."""
    function = {"name": tool.name, "arguments": as_json(arguments)}
    call = {"id": "call_1", "type": "function", "function": function}
    result = rng.choice(PHRASES["tool_results"])
    return [
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "call_1", "content": result},
    ]


def foreign(rng: random.Random, draw: Draw = random_scene) -> Example:
    """What the model knows nothing of; or what it knows, after instructions that it does not."""
    messages = []
    choice = rng.random()
    if choice < 0.7:
        messages = [{"role": "system", "content": foreign_text(16, rng)}]
    if choice < 0.25:
        question, answer = text_only(rng)
    elif choice < 0.5:
        scene = draw(rng)
        question, answer = ask_one_image(scene, rng)
        return Example("foreign", [*messages, user_message(question, 1, rng)], [scene], answer)
    else:
        question, answer = foreign_text(12, rng), FALLBACK
    return Example("foreign", [*messages, user_message(question, 0, rng)], [], answer)


def as_json(value: Any) -> str:
    """As the server lays JSON out."""
    return json.dumps(value, ensure_ascii=False)


STRUCTURED_KINDS: tuple[str, ...] = ("json", "forced calls", "beside tools", "foreign")


def random_example(kind: str, rng: random.Random, draw: Draw = random_scene) -> Example:
    """A request of one of STRUCTURED_KINDS; `draw` makes the scenes it is about."""
    if kind == "json":
        return json_answer(rng, draw)
    if kind == "foreign":
        return foreign(rng, draw)
    return tool_examples(1, float(kind == "forced calls"), rng, draw)[0]

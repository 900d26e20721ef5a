"""Tools as clients declare them, and which of several a question is for."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from scripts.demo_model.questions import Draw
from scripts.demo_model.scenes import Scene
from scripts.demo_model.structured import topics
from scripts.demo_model.structured.fields import named, object_schema
from scripts.demo_model.structured.topics import PHRASES, Fact, Topic

MOST_TOOLS = 3
ASKED_BY: dict[str, tuple[topics.SceneTopic, ...]] = {
    "color": (topics.about_shape, topics.about_shape, topics.about_scene),
    "kind": (topics.about_shape, topics.about_shape, topics.about_scene),
    "quarter": (topics.about_shape, topics.about_shape, topics.about_scene),
    "shape": (topics.about_shape, topics.about_scene),
    "count": (topics.about_count,),
    "background": (topics.about_background,),
    "caption": (topics.about_scene,),
    "verdict": (topics.about_existence,),
}
"""Questions for a tool, by what it is about; the others need no image."""
TYPICAL: dict[str, Fact] = {
    "color": "red",
    "kind": "circle",
    "quarter": "top left",
    "count": 1,
    "background": "white",
    "caption": "",
    "verdict": True,
    "country": "France",
    "capital": "Paris",
    "city": "Paris",
}
"""A value for each meaning that tools have, for its type."""


@dataclass(frozen=True)
class Tool:
    """A tool as in a request, what it is about, and the meanings of its arguments."""

    of: str
    declaration: dict[str, Any]
    fields: dict[str, str]

    @property
    def name(self) -> str:
        """What a call of it is named."""
        return str(self.declaration["function"]["name"])


def random_tools(rng: random.Random) -> list[Tool]:
    """One to MOST_TOOLS tools, each about something else; mostly they are named alike."""
    kinds = rng.sample(PHRASES["tools"], rng.randint(1, MOST_TOOLS))
    verb = rng.choice(PHRASES["verbs"]) if rng.random() < 0.5 else ""
    tools: list[Tool] = []
    for kind in kinds:
        tool = declared(kind, verb, rng)
        if all(tool.of != other.of and tool.name != other.name for other in tools):
            tools.append(tool)
    return tools


def declared(kind: dict[str, Any], verb: str, rng: random.Random) -> Tool:
    """A tool of that kind; the verb of its name, if it is left open, is any."""
    meanings = rng.choice(kind["fields"])
    fields = named(rng.sample(meanings, len(meanings)), rng)
    verb = verb or rng.choice(kind.get("verbs", PHRASES["verbs"]))
    function: dict[str, Any] = {"name": f"{verb}_{rng.choice(kind['named'])}"}
    if rng.random() < 0.15:
        function["name"] = in_camel_case(function["name"])
    # The server shows a tool without a description an empty one.
    function["description"] = rng.choice(kind["descriptions"]) if rng.random() < 0.7 else ""
    function["parameters"] = object_schema(fields, TYPICAL, rng)
    return Tool(kind["of"], {"type": "function", "function": function}, fields)


def in_camel_case(name: str) -> str:
    """`reportColor` for `report_color`."""
    first, *rest = name.split("_")
    return first + "".join(word.capitalize() for word in rest)


def meant_by(topic: Topic, tools: Sequence[Tool]) -> Tool | None:
    """The tool that a question is for."""
    fit = {
        tool.of: tool
        for tool in tools
        if not set(topic.asked).isdisjoint(tool.fields.values())
        and topic.facts.keys() >= set(tool.fields.values())
    }
    return next((fit[of] for of in topic.tools if of in fit), None)


def topic_for(
    tool: Tool, tools: Sequence[Tool], rng: random.Random, draw: Draw
) -> tuple[Topic, list[Scene]]:
    """A question for that tool among these, and the images it needs."""
    while True:
        scenes: list[Scene] = []
        if tool.of == "weather":
            topic = topics.about_weather(rng)
        elif tool.of not in ASKED_BY:
            topic = topics.about_capital(rng)
        else:
            scenes = [draw(rng)]
            topic = rng.choice(ASKED_BY[tool.of])(scenes[0], rng)
        if meant_by(topic, tools) is tool:
            return topic, scenes

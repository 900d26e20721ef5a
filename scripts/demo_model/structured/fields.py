"""The parts of an answer in JSON: what clients call them, and the schemas that they write."""

import random
from typing import Any

from scripts.demo_model.scenes import KINDS, QUARTERS
from scripts.demo_model.shades import BACKGROUNDS, COLORS
from scripts.demo_model.structured.topics import PHRASES, Fact

Schema = dict[str, Any]

ENUMS: dict[str, tuple[str, ...]] = {
    "color": tuple(COLORS),
    "kind": tuple(KINDS),
    "quarter": tuple(QUARTERS),
    "background": tuple(BACKGROUNDS),
}
MOST_FIELDS = 4


def named(meanings: list[str], rng: random.Random) -> dict[str, str]:
    """What a client may call them, each by its name; one whose name is taken is left out."""
    fields: dict[str, str] = {}
    for meaning in meanings:
        # Meanings without names of their own are called as they are.
        names: list[str] = PHRASES["fields"].get(meaning, [meaning])
        fields.setdefault(rng.choice(names), meaning)
    return fields


def filled(fields: dict[str, str], facts: dict[str, Fact]) -> dict[str, Fact]:
    """The one object with these fields that is right."""
    return {name: facts[meaning] for name, meaning in fields.items()}


def object_schema(fields: dict[str, str], facts: dict[str, Fact], rng: random.Random) -> Schema:
    """A schema that such an object keeps."""
    schema: Schema = {
        "type": "object",
        "properties": {
            name: field_schema(meaning, facts[meaning], rng) for name, meaning in fields.items()
        },
        "required": list(fields),
    }
    if rng.random() < 0.5:
        schema["additionalProperties"] = False
    return schema


def field_schema(meaning: str, value: Fact, rng: random.Random) -> Schema:
    """The value's type; at times with all that it may be."""
    if isinstance(value, bool):
        return {"type": "boolean"}
    if isinstance(value, int):
        return {"type": "integer"}
    choices = ENUMS.get(meaning)
    if choices is None or rng.random() < 0.5:
        return {"type": "string"}
    return {"type": "string", "enum": rng.sample(choices, len(choices))}


def chosen(asked: tuple[str, ...], facts: dict[str, Fact], rng: random.Random) -> list[str]:
    """One to MOST_FIELDS meanings in any order, one of them asked for."""
    first = rng.choice(asked)
    others = [meaning for meaning in facts if meaning != first]
    number = rng.choices(range(MOST_FIELDS), weights=(35, 30, 20, 15))[0]
    meanings = [first, *rng.sample(others, min(number, len(others)))]
    rng.shuffle(meanings)
    return meanings

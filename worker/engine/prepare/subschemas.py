"""The schemas inside a schema: what is one by its place, and not by its look (an `enum` of objects
that have `properties` has no schema in it)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

Schema = Any
"""A schema is an object, or true or false."""

BY_NAME = ("properties", "patternProperties", "$defs", "definitions", "dependentSchemas")
LISTS = ("allOf", "anyOf", "oneOf", "prefixItems", "items")
SINGLE = ("items", "additionalProperties", "not", "if", "then", "else", "contains")


def subschemas(schema: dict[str, Any]) -> Iterator[Schema]:
    """Return those directly below."""
    for key, value in schema.items():
        if key in BY_NAME and isinstance(value, dict):
            yield from value.values()
        elif key in LISTS and isinstance(value, list):
            yield from value
        elif key in SINGLE:
            yield value


def rebuilt(schema: Schema, change: Callable[[dict[str, Any], dict[str, Any]], Schema]) -> Schema:
    """Return the schema made anew from its innermost parts outwards.

    Args:
        change: from a part as it was given, and a copy of it whose own parts are made anew, to
            what stands in its place.
    """
    if not isinstance(schema, dict):
        return schema
    made = dict(schema)
    for key, value in schema.items():
        if key in BY_NAME and isinstance(value, dict):
            made[key] = {name: rebuilt(one, change) for name, one in value.items()}
        elif key in LISTS and isinstance(value, list):
            made[key] = [rebuilt(one, change) for one in value]
        elif key in SINGLE:
            made[key] = rebuilt(value, change)
    return change(schema, made)


def resolved(root: Any, pointer: str) -> Schema:
    """What a reference within the same schema leads to; True (anything) for any other."""
    if not pointer.startswith("#"):
        return True
    found = root
    for step in pointer[1:].split("/")[1:]:
        name = step.replace("~1", "/").replace("~0", "~")
        if not isinstance(found, dict) or name not in found:
            return True
        found = found[name]
    return found

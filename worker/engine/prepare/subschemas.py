"""The schemas inside a schema: what is one by its place, and not by its look (an `enum` of objects
that have `properties` has no schema in it)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import unquote

Schema = Any
"""A schema is an object, or true or false."""

BY_NAME = ("properties", "patternProperties", "$defs", "definitions", "dependentSchemas")
LISTS = ("allOf", "anyOf", "oneOf", "prefixItems", "items")
SINGLE = (
    *("items", "additionalProperties", "not", "if", "then", "else", "contains"),
    *("propertyNames", "unevaluatedItems", "unevaluatedProperties", "additionalItems"),
)


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


def mapping(schema: dict[str, Any], key: str) -> dict[str, Any]:
    """What stands there if it is an object; else none: the compiler says what is wrong with it."""
    value = schema.get(key)
    return value if isinstance(value, dict) else {}


def listed(schema: dict[str, Any], key: str) -> list[Any]:
    """As `mapping`, for a list."""
    value = schema.get(key)
    return value if isinstance(value, list) else []


def resolved(root: Any, pointer: str) -> Schema:
    """What a reference within the same schema leads to; True (anything) for any other."""
    own = root.get("$id") if isinstance(root, dict) else None
    if isinstance(own, str):
        pointer = pointer.removeprefix(own)
    if not pointer.startswith("#"):
        return True
    fragment = unquote(pointer[1:])
    if fragment and not fragment.startswith("/"):
        return _anchored(root, fragment)
    found = root
    for step in fragment.split("/")[1:]:
        name = step.replace("~1", "/").replace("~0", "~")
        if isinstance(found, list) and name.isdecimal() and int(name) < len(found):
            found = found[int(name)]
        elif isinstance(found, dict) and name in found:
            found = found[name]
        else:
            return True
    return found


def _anchored(schema: Schema, name: str) -> Schema:
    """The part that calls itself so; True if there is none."""
    if not isinstance(schema, dict):
        return True
    if schema.get("$anchor") == name:
        return schema
    found = (_anchored(part, name) for part in subschemas(schema))
    return next((part for part in found if part is not True), True)

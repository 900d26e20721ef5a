"""Objects that a schema leaves open by saying nothing, closed: a model would invent members.

An object that lists `properties` and does not say what others may be has no others. What lists none
stays free. Where several parts of a schema describe one object together (`allOf`, or choices and
references beside `properties`), it has the members that any of them lists, and the parts
themselves stay open: each knows only its own.
"""

from __future__ import annotations

from typing import Any

from worker.engine.prepare.subschemas import Schema, listed, mapping, rebuilt, resolved, subschemas

_CHOICES = ("allOf", "anyOf", "oneOf")
_BRANCHES = ("then", "else")


def closed(root: dict[str, Any]) -> dict[str, Any]:
    """Return the schema with its objects closed, as far as its references lead within it."""
    made: dict[str, Any] = rebuilt(root, _Closing(root).change)
    return made


class _Closing:
    def __init__(self, root: dict[str, Any]) -> None:
        self._root = root
        self._shared: set[int] = set()
        """Parts that describe an object together with others, by identity."""
        self._mark(root)

    def change(self, schema: dict[str, Any], made: dict[str, Any]) -> Schema:
        if id(schema) in self._shared or _is_one_of_several(schema):
            return made
        parts = [schema, *self._together(schema)]
        if any(map(_says_more, parts)):
            return made
        if all("properties" not in part for part in parts):
            return made
        for key in ("properties", "patternProperties"):
            others = {name: True for part in parts[1:] for name in mapping(part, key)}
            if others or isinstance(made.get(key), dict):
                made[key] = others | mapping(made, key)
        made["additionalProperties"] = False
        made.pop("unevaluatedProperties", None)  # that is what it has said
        return made

    def _mark(self, schema: Schema) -> None:
        """Find the parts that must stay open."""
        if not isinstance(schema, dict):
            return
        if not _is_one_of_several(schema):
            self._shared.update(map(id, self._together(schema)))
        for part in subschemas(schema):
            self._mark(part)

    def _together(self, schema: dict[str, Any]) -> list[dict[str, Any]]:
        """Return what describes the same object as `schema` does, besides itself."""
        found: list[dict[str, Any]] = []
        waiting = self._beside(schema)
        while waiting:
            part = waiting.pop()
            if isinstance(part, dict) and not any(part is one for one in (schema, *found)):
                found.append(part)
                waiting += self._beside(part)
        return found

    def _beside(self, schema: dict[str, Any]) -> list[Schema]:
        found = [schema[key] for key in _BRANCHES if key in schema]
        for key in _CHOICES:
            found += listed(schema, key)
        if isinstance(schema.get("$ref"), str):
            found.append(resolved(self._root, schema["$ref"]))
        return found


def _says_more(schema: dict[str, Any]) -> bool:
    """Whether it says what other members may be. That there are none is what is meant anyway."""
    unevaluated = schema.get("unevaluatedProperties", False)
    return "additionalProperties" in schema or unevaluated is not False


def _is_one_of_several(schema: dict[str, Any]) -> bool:
    """Whether the schema is just what one part of it says: each of these is an object of its own.

    True as well for one that has no parts and lists nothing.
    """
    if "properties" in schema or any(key in schema for key in _BRANCHES):
        return False
    is_sum = len(listed(schema, "allOf")) > 1
    return not is_sum and sum(key in schema for key in (*_CHOICES, "$ref")) <= 1

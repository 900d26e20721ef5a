"""JSON schemas that a grammar is made from: what is demanded, and whether it can be kept."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import msgspec

from shared.messages import Job, Tool, ToolPolicy
from worker.engine.prepare.subschemas import Schema, rebuilt, resolved, subschemas

MOST_CALLS = 16
"""A model that is forced to call tools may not go on for ever."""

EXACT = 2**53
"""The compiler reads numbers as float64: beyond this it means a neighbour of an integer."""

MOST = 2**1000
"""A bound beyond it is none."""

_SAYS_MEMBERS = (
    "properties",
    "patternProperties",
    "additionalProperties",
    "$ref",
    "allOf",
    "anyOf",
    "oneOf",
)
_DEFINITIONS = ("$defs", "definitions")
_VALUES = ("const", "enum", "multipleOf")
_BOUNDS = {
    "minimum": math.inf,
    "exclusiveMinimum": math.inf,
    "maximum": -math.inf,
    "exclusiveMaximum": -math.inf,
}
"""Where each is moved: inwards, so that what keeps the new one keeps the one that was given."""


def demanded_schema(job: Job) -> tuple[dict[str, Any], str] | None:
    """The schema that the job's answer must keep, and the parameter that it comes from."""
    if job.tool_policy is not None and job.tool_policy.mode == "required":
        return calls_schema(job.tool_policy), "tools"
    if job.response_format is None:
        return None
    return job.response_format.schema or {"type": "object"}, "response_format"


def prepared(schema: dict[str, Any]) -> dict[str, Any]:
    """The schema as the compiler may have it.

    Raises:
        ValueError: no answer can keep it, or the compiler would make another one of it.
    """
    if not _Ends(schema).all():
        raise ValueError("a value of it would never end: a required part contains itself")
    exact = rebuilt(schema, _exact)
    assert isinstance(exact, dict)
    return exact


def calls_schema(policy: ToolPolicy) -> dict[str, Any]:
    """The schema of a list of calls: `[{"name": ..., "arguments": {...}}, ...]`."""
    tools = [tool for tool in policy.tools if policy.name in (None, tool.name)]
    definitions: dict[str, Any] = {}
    calls = []
    for index, tool in enumerate(tools):
        parameters = _arguments_schema(tool)
        # References start at the root of the whole, where tools may have the same names.
        moved = _moved(parameters, f"#/$defs/{index}")
        if moved != parameters:
            definitions[str(index)] = moved
            parameters = {"$ref": f"#/$defs/{index}"}
        calls.append(
            {
                "type": "object",
                "properties": {"name": {"const": tool.name}, "arguments": parameters},
                "required": ["name", "arguments"],
                "additionalProperties": False,
            }
        )
    many = policy.parallel and policy.name is None
    schema: dict[str, Any] = {
        "type": "array",
        "items": {"anyOf": calls} if len(calls) > 1 else calls[0],
        "minItems": 1,
        "maxItems": MOST_CALLS if many else 1,
    }
    return schema | ({"$defs": definitions} if definitions else {})


def _arguments_schema(tool: Tool) -> dict[str, Any]:
    """A tool that lists no parameters takes none."""
    parameters = {"type": "object"} | tool.parameters
    if parameters.keys().isdisjoint(_SAYS_MEMBERS):
        parameters["properties"] = {}
    return parameters


def strict_parts(job: Job, schema: dict[str, Any]) -> list[dict[str, Any]]:
    """The schemas of which nothing may be left out: tools say so one by one."""
    policy = job.tool_policy
    if policy is not None and policy.mode == "required":
        alone = [msgspec.structs.replace(policy, tools=[tool]) for tool in policy.tools]
        return [calls_schema(one) for one in alone if one.tools[0].strict and _may_be_called(one)]
    return [schema] if job.response_format is not None and job.response_format.strict else []


def _may_be_called(policy: ToolPolicy) -> bool:
    return policy.name in (None, policy.tools[0].name)


def _moved(schema: Any, root: str) -> Any:
    """Return a schema whose references to itself hold when it stands at `root`."""
    if isinstance(schema, list):
        return [_moved(item, root) for item in schema]
    if not isinstance(schema, dict):
        return schema
    return {
        key: root + value[1:]
        if key == "$ref" and isinstance(value, str) and value.startswith("#")
        else _moved(value, root)
        for key, value in schema.items()
    }


def _exact(_: dict[str, Any], made: dict[str, Any]) -> Schema:
    """With bounds that are exact, moved inwards where they were not.

    Raises:
        ValueError: it names a value that cannot be exact.
    """
    for key in _VALUES:
        _refuse_inexact(made.get(key))
    for key, towards in _BOUNDS.items():
        bound = made.get(key)
        if isinstance(bound, int) and abs(bound) > EXACT:
            made[key] = _moved_inwards(bound, towards)
    return made


def _moved_inwards(bound: int, towards: float) -> int:
    near = float(min(max(bound, -MOST), MOST))
    if (int(near) > bound) if towards < 0 else (int(near) < bound):
        near = math.nextafter(near, towards)
    return int(near)


def _refuse_inexact(value: Any) -> None:
    if isinstance(value, Mapping):
        value = [*value.values()]
    if isinstance(value, list):
        for one in value:
            _refuse_inexact(one)
    elif isinstance(value, int) and abs(value) > EXACT:
        raise ValueError(f"{value} is beyond 2**53, where numbers are not exact")


class _Ends:
    """Whether whatever a schema lets a model begin has a value that ends.

    A part is taken for endless until it is shown to end; what ends is learned in rounds, until a
    round teaches nothing new.
    """

    def __init__(self, schema: dict[str, Any]) -> None:
        self._root = schema
        self._targets = dict.fromkeys(_references(schema), False)

    def all(self) -> bool:
        while True:
            learned = [
                pointer
                for pointer, ends in self._targets.items()
                if not ends and self._ends(resolved(self._root, pointer))
            ]
            if not learned:
                return self._ends(self._root) and all(self._targets.values())
            self._targets.update(dict.fromkeys(learned, True))

    def _ends(self, schema: Schema) -> bool:
        if not isinstance(schema, dict):
            return True
        if "const" in schema or "enum" in schema:
            return True
        reference = schema.get("$ref")
        if isinstance(reference, str) and not self._targets.get(reference, True):
            return False
        if not all(map(self._ends, schema.get("allOf") or ())):
            return False
        for name in ("anyOf", "oneOf"):
            choices = schema.get(name)
            if choices and not any(map(self._ends, choices)):
                return False
        kinds = schema.get("type", ())
        kinds = {kinds} if isinstance(kinds, str) else set(kinds)
        if kinds - {"object", "array"}:
            return True
        return any(
            (
                "object" in kinds and self._object_ends(schema),
                "array" in kinds and self._array_ends(schema),
                not kinds and self._object_ends(schema) and self._array_ends(schema),
            )
        )

    def _object_ends(self, schema: dict[str, Any]) -> bool:
        properties = schema.get("properties") or {}
        others = schema.get("additionalProperties")
        required = schema.get("required") or ()
        return all(self._ends(properties.get(name, others)) for name in required)

    def _array_ends(self, schema: dict[str, Any]) -> bool:
        least = schema.get("minItems") or 0
        first = schema.get("prefixItems") or []
        if not all(map(self._ends, first[:least])):
            return False
        return least <= len(first) or self._ends(schema.get("items"))


def _references(root: dict[str, Any]) -> set[str]:
    """Where references lead, from the root and from where they lead; definitions that nothing
    refers to are no part of it."""
    found: set[str] = set()
    waiting: list[Schema] = [root]
    while waiting:
        schema = waiting.pop()
        if not isinstance(schema, dict):
            continue
        used = {key: part for key, part in schema.items() if key not in _DEFINITIONS}
        waiting += subschemas(used)
        pointer = schema.get("$ref")
        if isinstance(pointer, str) and pointer not in found:
            found.add(pointer)
            waiting.append(resolved(root, pointer))
    return found

"""JSON schemas that a grammar is made from: what is demanded, and whether it can be kept."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import msgspec

from shared.messages import Job, Tool, ToolPolicy
from worker.engine.prepare.subschemas import Schema, listed, mapping, rebuilt, resolved, subschemas

MOST_CALLS = 16
"""A model that is forced to call tools may not go on for ever."""

EXACT = 2**53
"""The compiler reads numbers as float64: beyond this it means a neighbour of an integer."""

WIDEST = 2**63 - 1024
"""The compiler knows no wider range of numbers; of those of 64 bits it is the last float64."""

LONGEST = 2**32 - 1
"""The compiler knows no longer text."""

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
"""Where each is moved: inwards, so that what keeps the new one keeps the one that was given. One
that lies beyond all numbers on its other side stays: nothing keeps it."""


def demanding(job: Job) -> str | None:
    """The parameter that demands a form of the job's answer; None: it is free."""
    if job.tool_policy is not None and job.tool_policy.mode == "required":
        return "tools"
    return None if job.response_format is None else "response_format"


def demanded_schema(job: Job) -> dict[str, Any]:
    """The schema that the job's answer must keep, whichever parameter demands it.

    Raises:
        ValueError: a tool takes something else than an object.
    """
    if job.tool_policy is not None and job.tool_policy.mode == "required":
        return calls_schema(job.tool_policy)
    assert job.response_format is not None
    return job.response_format.schema or {"type": "object"}


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
    """What a tool takes: an object, and one without members if it lists no parameters.

    Raises:
        ValueError: it takes something else.
    """
    kinds = tool.parameters.get("type", "object")
    if kinds != "object" and not (isinstance(kinds, list) and "object" in kinds):
        raise ValueError(f"the parameters of {tool.name!r} are no object")
    parameters = {**tool.parameters, "type": "object"}
    if parameters.keys().isdisjoint(_SAYS_MEMBERS):
        parameters["properties"] = {}
    return parameters


def strict_parts(job: Job) -> list[dict[str, Any]]:
    """The schemas of which nothing may be left out: tools say so one by one.

    Raises:
        ValueError: a tool takes something else than an object.
    """
    policy = job.tool_policy
    if policy is not None and policy.mode == "required":
        alone = [msgspec.structs.replace(policy, tools=[tool]) for tool in policy.tools]
        return [calls_schema(one) for one in alone if one.tools[0].strict and _may_be_called(one)]
    is_strict = job.response_format is not None and job.response_format.strict
    return [demanded_schema(job)] if is_strict else []


def _may_be_called(policy: ToolPolicy) -> bool:
    return policy.name in (None, policy.tools[0].name)


def _moved(schema: dict[str, Any], root: str) -> Schema:
    """Return a schema whose references to itself hold when it stands at `root`."""

    def change(_: dict[str, Any], made: dict[str, Any]) -> Schema:
        pointer = made.get("$ref")
        if isinstance(pointer, str) and (pointer == "#" or pointer.startswith("#/")):
            made["$ref"] = root + pointer[1:]
        return made

    return rebuilt(schema, change)


def _exact(_: dict[str, Any], made: dict[str, Any]) -> Schema:
    """With bounds that are exact, moved inwards where they were not.

    Raises:
        ValueError: it names a value that cannot be exact.
    """
    for key in _VALUES:
        _refuse_inexact(made.get(key))
    for key, towards in _BOUNDS.items():
        bound = made.get(key)
        if isinstance(bound, int | float) and abs(bound) > EXACT:
            made[key] = _moved_inwards(bound, towards)
    most = made.get("maxLength")
    if isinstance(most, int) and most > LONGEST:
        made["maxLength"] = LONGEST
    return made


def _moved_inwards(bound: float, towards: float) -> float:
    widest = math.copysign(WIDEST, -towards)
    if abs(bound) > WIDEST:
        return int(widest) if (bound > 0) == (widest > 0) else bound
    near = float(bound)
    if (near > bound) if towards < 0 else (near < bound):
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
        if not all(map(self._ends, listed(schema, "allOf"))):
            return False
        for name in ("anyOf", "oneOf"):
            choices = listed(schema, name)
            if choices and not any(map(self._ends, choices)):
                return False
        kinds = schema.get("type")
        kinds = kinds if isinstance(kinds, list) else [kinds]
        if any(kind not in ("object", "array", None) for kind in kinds):
            return True
        return any(
            (
                "object" in kinds and self._object_ends(schema),
                "array" in kinds and self._array_ends(schema),
                None in kinds and self._object_ends(schema) and self._array_ends(schema),
            )
        )

    def _object_ends(self, schema: dict[str, Any]) -> bool:
        properties = mapping(schema, "properties")
        others = schema.get("additionalProperties")
        required = [name for name in listed(schema, "required") if isinstance(name, str)]
        return all(self._ends(properties.get(name, others)) for name in required)

    def _array_ends(self, schema: dict[str, Any]) -> bool:
        least = schema.get("minItems")
        least = max(0, least) if isinstance(least, int) else 0
        first = listed(schema, "prefixItems")
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

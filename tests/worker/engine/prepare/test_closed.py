"""An object that lists its members has no others; what is allowed stays allowed."""

from __future__ import annotations

from typing import Any, Literal

import jsonschema_rs
import pytest
from pydantic import BaseModel

from worker.engine.prepare.closed import closed

A: dict[str, Any] = {"type": "object", "properties": {"a": {"type": "string"}}}
B: dict[str, Any] = {"type": "object", "properties": {"b": {"type": "integer"}}}
FREE: dict[str, Any] = {"type": "object"}


class Leaf(BaseModel):
    name: str


class Tree(BaseModel):
    kind: Literal["tree"]
    leaf: Leaf
    more: list[Leaf] = []
    parent: Tree | None = None
    notes: dict[str, str] = {}


def wrapped(part: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return {"type": "object", "properties": {"x": part}, "required": ["x"], **fields}


TREE = Tree.model_json_schema()
LEAF = {"name": "n"}

CASES: list[tuple[dict[str, Any], list[Any], list[Any]]] = [
    # schema, what it takes, what it does not
    (A, [{"a": "x"}, {}], [{"b": 1}, {"a": "x", "b": 1}]),
    (FREE, [{"anything": 1}], [[]]),
    (A | {"additionalProperties": True}, [{"b": 1}], []),
    (A | {"additionalProperties": {"type": "integer"}}, [{"b": 1}], [{"b": "x"}]),
    ({"type": "object", "properties": {}}, [{}], [{"a": 1}]),
    (A | {"unevaluatedProperties": False}, [{"a": "x"}], [{"b": 1}]),
    (A | {"unevaluatedProperties": True}, [{"b": 1}], [{"a": 1}]),
    (A | {"allOf": [B], "unevaluatedProperties": False}, [{"a": "x", "b": 1}], [{"c": 1}]),
    (A | {"patternProperties": {"^x-": {}}}, [{"x-1": 1}], [{"b": 1}]),
    (wrapped(A), [{"x": {"a": "x"}}], [{"x": {"b": 1}}, {"x": {}, "y": 1}]),
    (wrapped(FREE), [{"x": {"b": 1}}], [{"x": {}, "y": 1}]),
    ({"type": "array", "items": A}, [[{"a": "x"}]], [[{"b": 1}]]),
    ({"prefixItems": [A, FREE]}, [[{}, {"b": 1}]], [[{"b": 1}]]),
    # a choice: each is an object of its own
    ({"anyOf": [A, B]}, [{"a": "x"}, {"b": 1}], [{"a": "x", "b": 1}, {"c": 1}]),
    ({"anyOf": [A, {"type": "null"}]}, [{"a": "x"}, None], [{"c": 1}]),
    # a sum: one object, described in parts
    ({"allOf": [A, B]}, [{"a": "x", "b": 1}], [{"a": 1}, {"c": 1}]),
    (A | {"allOf": [B]}, [{"a": "x", "b": 1}], [{"c": 1}]),
    (A | {"anyOf": [B, FREE]}, [{"a": "x", "b": 1}], [{"c": 1}]),
    (A | {"anyOf": [{"required": ["a"]}, {"required": ["b"]}]}, [{"a": "x"}], [{}, {"b": 1}]),
    (A | {"if": {"required": ["a"]}, "then": B}, [{"a": "x", "b": 1}], [{"c": 1}]),
    ({"allOf": [A, FREE]}, [{"a": "x"}], [{"c": 1}]),
    ({"allOf": [A, FREE | {"additionalProperties": True}]}, [{"c": 1}], [{"a": 1}]),
    ({"allOf": [A]}, [{"a": "x"}], [{"c": 1}]),
    # references
    (
        {"$ref": "#/$defs/A", "$defs": {"A": A}},
        [{"a": "x"}],
        [{"c": 1}],
    ),
    (
        {"allOf": [{"$ref": "#/$defs/A"}, B], "$defs": {"A": A}},
        [{"a": "x", "b": 1}],
        [{"c": 1}],
    ),
    (
        B | {"$ref": "#/$defs/A", "$defs": {"A": A}},
        [{"a": "x", "b": 1}],
        [{"c": 1}],
    ),
    (
        {"type": "object", "properties": {"next": {"$ref": "#"}}},
        [{"next": {"next": {}}}],
        [{"next": {"c": 1}}],
    ),
    # names that are keywords elsewhere
    (wrapped(A) | {"properties": {"x": A, "properties": FREE}}, [{"x": {}}], [{"x": {}, "y": 1}]),
    ({"enum": [{"properties": {}}]}, [{"properties": {}}], [{}]),
    ({"const": {"properties": {"a": 1}}}, [{"properties": {"a": 1}}], [{}]),
    # as pydantic writes it
    (
        TREE,
        [{"kind": "tree", "leaf": LEAF, "parent": None, "notes": {"any": "one"}}],
        [{"kind": "tree", "leaf": LEAF | {"c": 1}}, {"kind": "tree", "leaf": LEAF, "c": 1}],
    ),
]


@pytest.mark.parametrize(("schema", "right", "wrong"), CASES, ids=lambda value: str(value)[:50])
def test_it_takes_what_is_listed(
    schema: dict[str, Any], right: list[Any], wrong: list[Any]
) -> None:
    check = jsonschema_rs.validator_for(closed(schema))
    given = jsonschema_rs.validator_for(schema)
    for value in right:
        assert check.is_valid(value) and given.is_valid(value), value
    assert not [value for value in wrong if check.is_valid(value)]


@pytest.mark.parametrize(
    "schema", [True, {"$ref": "#/no/where", "properties": {}}, {"allOf": 3}, {"properties": [1]}]
)
def test_what_makes_no_sense_is_left_to_the_compiler(schema: Any) -> None:
    closed({"properties": {"x": schema}})

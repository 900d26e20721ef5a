"""Schemas before they are compiled: what never ends, what cannot be exact, what a tool takes."""

from __future__ import annotations

from typing import Any

import pytest

from shared.messages import Tool, ToolPolicy
from worker.engine.prepare.closed import closed
from worker.engine.prepare.schema import EXACT, WIDEST, calls_schema, prepared

NODE = {"type": "object", "properties": {"next": {"$ref": "#/$defs/n"}}, "required": ["next"]}


def of_ref(node: dict[str, Any], pointer: str) -> dict[str, Any]:
    """The node with another reference to itself."""
    return {**node, "properties": {"next": {"$ref": pointer}}}


def with_node(node: Any) -> dict[str, Any]:
    return {"$ref": "#/$defs/n", "$defs": {"n": node}}


@pytest.mark.parametrize(
    "schema",
    [
        with_node(NODE),
        with_node({"allOf": [NODE]}),
        with_node({"anyOf": [NODE, {"$ref": "#/$defs/n"}]}),
        with_node({"type": "array", "items": {"$ref": "#/$defs/n"}, "minItems": 1}),
        with_node({"type": ["object", "array"], **NODE, "items": NODE, "minItems": 2}),
        {"type": "object", "properties": {"a": {"$ref": "#"}}, "required": ["a"]},
        {
            "$ref": "#/$defs/a",
            "$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}},
        },
        # Not all of it: but what has been begun must end, too.
        {"anyOf": [{"$ref": "#/$defs/n"}, {"type": "null"}], "$defs": {"n": NODE}},
        {"type": "object", "properties": {"a": {"$ref": "#/$defs/n"}}, "$defs": {"n": NODE}},
        {"type": "array", "items": {"$ref": "#/$defs/n"}, "$defs": {"n": NODE}},
        # References by other names than a plain path.
        {"$ref": "#node", "$defs": {"n": {"$anchor": "node", **of_ref(NODE, "#node")}}},
        {"$ref": "#/$defs/a%20b", "$defs": {"a b": of_ref(NODE, "#/$defs/a%20b")}},
        {"$ref": "#/allOf/0", "allOf": [of_ref(NODE, "#/allOf/0")]},
        {"$id": "https://x/y", "$ref": "https://x/y#/$defs/n", "$defs": {"n": NODE}},
        # Required, and said by what any member must be.
        with_node(
            {"type": "object", "additionalProperties": {"$ref": "#/$defs/n"}, "required": ["a"]}
        ),
    ],
)
def test_a_schema_without_an_end_is_refused(schema: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="never end"):
        prepared(schema)


@pytest.mark.parametrize(
    "schema",
    [
        with_node({**NODE, "required": []}),
        with_node({"anyOf": [NODE, {"type": "null"}]}),
        with_node({**NODE, "type": ["object", "null"]}),
        with_node({"type": "array", "items": {"$ref": "#/$defs/n"}}),
        with_node({"const": {"next": 1}}),
        {
            "$ref": "#/$defs/a",
            "$defs": {
                "a": {
                    "type": "object",
                    "properties": {"b": {"$ref": "#/$defs/b"}},
                    "required": ["b"],
                },
                "b": {"type": "array", "items": {"$ref": "#/$defs/a"}},
            },
        },
        {"type": "object", "required": ["unlisted"]},
        {"$ref": "https://elsewhere.example/schema"},
        {"$ref": "#leaf", "$defs": {"n": {"$anchor": "leaf", "type": "null"}}},
        {"type": "null", "$defs": {"unused": {"$ref": "#/$defs/unused"}}},
    ],
)
def test_a_schema_with_an_end_stays_as_it_is(schema: dict[str, Any]) -> None:
    assert prepared(schema) == schema


@pytest.mark.parametrize(
    "part",
    [
        {"const": EXACT + 2},
        {"enum": ["a", -(2**60)]},
        {"enum": [{"id": 2**64}]},
        {"multipleOf": 2**70},
    ],
)
def test_a_value_that_cannot_be_exact_is_refused(part: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="not exact"):
        prepared({"type": "object", "properties": {"default": part}})


def test_bounds_move_inwards_until_they_are_exact() -> None:
    bounds = {"minimum": -(2**63) + 1, "maximum": 2**63 - 1}
    made = prepared({"type": "object", "properties": {"id": {"type": "integer", **bounds}}})
    moved = made["properties"]["id"]
    assert bounds["minimum"] <= moved["minimum"] == int(float(moved["minimum"]))
    assert bounds["maximum"] >= moved["maximum"] == int(float(moved["maximum"]))
    assert prepared({"maximum": 10**400})["maximum"] == WIDEST
    annotated = {"type": "integer", "default": 2**63 - 1, "examples": [2**62]}
    assert prepared(annotated) == annotated


@pytest.mark.parametrize("parameters", [{}, {"type": "object"}, {"properties": {}}])
def test_a_tool_without_parameters_takes_none(parameters: dict[str, Any]) -> None:
    policy = ToolPolicy(tools=[Tool(name="now", parameters=parameters)], mode="required")
    (call,) = [calls_schema(policy)["items"]]
    assert closed(call["properties"]["arguments"]) == {
        "type": "object",
        "properties": {},
        "additionalProperties": False,
    }


def test_a_tool_that_says_that_anything_goes_takes_anything() -> None:
    parameters = {"type": "object", "additionalProperties": True}
    policy = ToolPolicy(tools=[Tool(name="f", parameters=parameters)], mode="required")
    assert calls_schema(policy)["items"]["properties"]["arguments"] == parameters


def test_a_call_has_an_object_of_arguments() -> None:
    """Of what else they may be, nothing could be read."""

    def arguments(**parameters: Any) -> Any:
        policy = ToolPolicy(tools=[Tool(name="f", parameters=parameters)], mode="required")
        return calls_schema(policy)["items"]["properties"]["arguments"]

    assert arguments(type=["object", "null"])["type"] == "object"
    assert arguments(anyOf=[{"type": "integer"}, {}])["type"] == "object"
    for kind in ("integer", ["null", "string"], 5):
        with pytest.raises(ValueError, match="'f' are no object"):
            arguments(type=kind)


def test_references_of_a_tool_are_moved_and_its_data_is_not() -> None:
    data = {"enum": [{"$ref": "#/x"}], "default": {"$ref": "#/x"}}
    parts = {"default": {"$ref": "#/$defs/a"}, "b": data, "c": {"$ref": "#a"}}
    parameters = {"properties": parts, "$defs": {"a": {"$anchor": "a", "type": "null"}}}
    policy = ToolPolicy(tools=[Tool(name="f", parameters=parameters)], mode="required")
    moved = calls_schema(policy)["$defs"]["0"]["properties"]
    assert moved == {"default": {"$ref": "#/$defs/0/$defs/a"}, "b": data, "c": {"$ref": "#a"}}

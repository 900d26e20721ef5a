"""What no grammar can enforce is named, or refused where the client is strict."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from shared.messages import Accepted, ResponseFormat, Tool, ToolPolicy
from tests.worker.engine.driving import Driver, Result, job, sampled
from worker.engine.options import EngineOptions

TEXT: dict[str, Any] = {"type": "string", "maxLength": 3}
NUMBERS = {"type": "array", "items": {"enum": [1, 2]}, "maxItems": 3}


def within(part: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "properties": {"a": part}, "required": ["a"]}


LEFT_OUT: list[tuple[dict[str, Any], list[str]]] = [
    (TEXT | {"format": "binary"}, ["format:binary"]),
    (NUMBERS | {"uniqueItems": True}, ["uniqueItems"]),
    ({"anyOf": [TEXT | {"format": "x"}, NUMBERS | {"contains": {}}]}, ["contains", "format:x"]),
    (TEXT | {"pattern": "^(?!x)a*"}, ["pattern"]),
    ({"oneOf": [{"enum": ["a"]}, {"enum": ["a", "b"]}]}, ["oneOf"]),
]

ENFORCED = [
    TEXT,
    {"type": "string", "format": "date"},
    {"type": "string", "pattern": "^a{1,3}$"},
    NUMBERS | {"uniqueItems": False},
    {"type": "integer", "minimum": -(2**63), "maximum": 2**63 - 1},
    {"type": "number", "minimum": -1.7976931348623157e308, "maximum": 1.7976931348623157e308},
    TEXT | {"maxLength": 2**53 - 1, "pattern": "^ab$"},
    # A remark by itself, wherever it stands.
    TEXT | {"title": "T", "examples": ["a"], "x-order": 1},
]


@pytest.fixture(scope="module")
def driver(checkpoint: Callable[[str], Path]) -> Driver:
    return Driver(EngineOptions(model_path=str(checkpoint("qwen2_vl"))))


def told(result: Result) -> list[str]:
    return next(event.unenforced for event in result.events if isinstance(event, Accepted))


@pytest.mark.parametrize(("part", "names"), LEFT_OUT, ids=str)
def test_it_is_named(driver: Driver, part: dict[str, Any], names: list[str]) -> None:
    form = ResponseFormat(schema=within(part))
    result = driver.solo(job("x", response_format=form, max_tokens=100))
    assert told(result) == names
    assert json.loads(result.text).keys() == {"a"}


@pytest.mark.parametrize(("part", "names"), LEFT_OUT, ids=str)
def test_it_is_refused_where_the_client_is_strict(
    driver: Driver, part: dict[str, Any], names: list[str]
) -> None:
    form = ResponseFormat(schema=within(part), strict=True)
    failed = driver.solo(job("x", response_format=form)).failed
    assert failed is not None
    assert (failed.code, failed.param) == ("invalid_request", "response_format")
    assert "\n" not in failed.message


@pytest.mark.parametrize("part", ENFORCED, ids=str)
@pytest.mark.parametrize("strict", [False, True])
def test_what_is_enforced_is_not(driver: Driver, part: dict[str, Any], strict: bool) -> None:
    form = ResponseFormat(schema=within(part), strict=strict)
    result = driver.solo(job("x", response_format=form, max_tokens=100))
    assert told(result) == [] and json.loads(result.text).keys() == {"a"}


def test_an_expression_that_cannot_be_read_is_told_why(driver: Driver) -> None:
    form = ResponseFormat(schema=within(TEXT | {"pattern": "^(?!x)a*"}), strict=True)
    failed = driver.solo(job("x", response_format=form)).failed
    assert failed is not None and "look-around" in failed.message


@pytest.mark.parametrize("part", ENFORCED, ids=str)
def test_a_strict_tool_may_ask_for_all_that_is_enforced(
    driver: Driver, part: dict[str, Any]
) -> None:
    tool = Tool(name="f", parameters=within(part), strict=True)
    policy = ToolPolicy(tools=[tool], mode="required", parallel=False)
    result = driver.solo(job("x", tool_policy=policy, max_tokens=1))
    assert told(result) == []


def test_tools_say_one_by_one_whether_they_are_strict(driver: Driver) -> None:
    loose = Tool(name="loose", parameters=within(TEXT | {"format": "binary"}))
    strict = Tool(name="strict", parameters=within(TEXT), strict=True)
    policy = ToolPolicy(tools=[loose, strict], mode="required", parallel=False)
    assert told(driver.solo(job("x", tool_policy=policy, max_tokens=80))) == ["format:binary"]
    wrong = Tool(name="loose", parameters=loose.parameters, strict=True)
    policy = ToolPolicy(tools=[wrong, strict], mode="required")
    failed = driver.solo(job("y", tool_policy=policy)).failed
    assert failed is not None and failed.param == "tools"
    only = ToolPolicy(tools=[wrong, strict], mode="required", name="strict", parallel=False)
    assert told(driver.solo(job("z", tool_policy=only, max_tokens=80))) == []


@pytest.mark.parametrize("parameters", [{}, {"type": "object"}, {"type": "object", "title": "T"}])
def test_a_tool_that_lists_no_parameters_takes_none(
    driver: Driver, parameters: dict[str, Any]
) -> None:
    policy = ToolPolicy(
        tools=[Tool(name="now", parameters=parameters)], mode="required", parallel=False
    )
    hot = sampled(1, temperature=3.0)
    result = driver.solo(job("x", tool_policy=policy, sampling=hot, max_tokens=60))
    pieces = [call.arguments for delta in result.deltas for call in delta.tool_calls]
    assert "".join(pieces) == "{}" and result.finish_reason == "tool_calls"


def test_a_schema_cannot_ask_for_free_white_space(driver: Driver) -> None:
    """The compiler's own options may stand in a schema."""
    free = within(TEXT) | {"x-guidance": {"whitespace_flexible": True, "lenient": True}}
    hot = sampled(1, temperature=3.0)
    form = ResponseFormat(schema=free)
    result = driver.solo(job("x", response_format=form, sampling=hot, max_tokens=60))
    assert result.text.startswith('{"a": "')


def test_an_object_ends_at_any_temperature(driver: Driver) -> None:
    """As pydantic writes schemas: without `additionalProperties`."""
    for seed in range(3):
        hot = sampled(seed, temperature=3.0)
        form = ResponseFormat(schema=within({"enum": ["b", "c"]}))
        result = driver.solo(job(str(seed), response_format=form, sampling=hot, max_tokens=200))
        assert json.loads(result.text).keys() == {"a"} and result.finish_reason == "stop"

"""Answers with a demanded form, from a model that left alone says nonsense."""

from __future__ import annotations

import json
from typing import Any

import pytest

from shared.messages import (
    ChatMessage,
    ResponseFormat,
    Resume,
    TextPart,
    Tool,
    ToolCall,
    ToolPolicy,
)
from tests.worker.engine.conftest import MakeDriver
from tests.worker.engine.driving import Result, assistant, job, sampled, user
from worker.engine.faults import JobFault
from worker.engine.model.language import language_of
from worker.engine.prepare.grammar import GrammarMaker

SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "color": {"enum": ["red", "blue"]},
        "count": {"type": "integer", "minimum": 0, "maximum": 9},
        "tags": {"type": "array", "items": {"enum": ["a", "b"]}, "maxItems": 2},
    },
    "required": ["color", "count", "tags"],
    "additionalProperties": False,
}
WEATHER = Tool(
    name="get_weather",
    parameters={
        "type": "object",
        "properties": {"city": {"enum": ["Paris", "Rome"]}},
        "required": ["city"],
        "additionalProperties": False,
    },
)
CLOCK = Tool(name="get_time", parameters={"type": "object", "additionalProperties": False})


def fitting(text: str) -> Any:
    found = json.loads(text)
    assert found["color"] in ("red", "blue")
    assert 0 <= found["count"] <= 9
    assert set(found["tags"]) <= {"a", "b"}
    return found


def calls_of(result: Result) -> list[tuple[str, Any]]:
    pieces: dict[int, list[str]] = {}
    for delta in result.deltas:
        for call in delta.tool_calls:
            piece = pieces.setdefault(call.index, ["", ""])
            piece[0] += call.name
            piece[1] += call.arguments
    return [(name, json.loads(arguments)) for name, arguments in pieces.values()]


def test_a_schema_is_kept_at_any_temperature(anew: MakeDriver) -> None:
    driver = anew()
    form = ResponseFormat(schema=SCHEMA)
    for seed in range(5):
        hot = sampled(seed, temperature=3.0)
        result = driver.solo(job(str(seed), response_format=form, sampling=hot, max_tokens=200))
        fitting(result.text)
        assert result.finish_reason == "stop"


def test_any_json_object_is_an_object(anew: MakeDriver) -> None:
    result = anew().solo(
        job("x", response_format=ResponseFormat(), sampling=sampled(1), max_tokens=400)
    )
    assert result.text.startswith("{")
    if result.finish_reason == "stop":
        assert isinstance(json.loads(result.text), dict)


def test_a_grammar_concerns_its_own_row_alone(anew: MakeDriver) -> None:
    form = ResponseFormat(schema=SCHEMA)
    formed = job("formed", response_format=form, sampling=sampled(3), max_tokens=200)
    free = [job(f"free{i}", f"Hello {i}", sampling=sampled(i), max_tokens=25) for i in range(3)]
    alone = [anew().solo(made) for made in (formed, *free)]
    together = anew().run(formed, *free)
    assert [result.tokens for result in together] == [result.tokens for result in alone]
    fitting(together[0].text)


def test_choices_with_a_grammar_go_their_own_ways(anew: MakeDriver) -> None:
    form = ResponseFormat(schema=SCHEMA)
    result = anew().solo(
        job("x", response_format=form, sampling=sampled(3), max_tokens=200, choices=3)
    )
    for choice in range(3):
        fitting(result.text_of(choice))


@pytest.mark.parametrize("cut", [1, 5, 9])
def test_a_formed_answer_can_move_to_another_worker(cut: int, anew: MakeDriver) -> None:
    fields: dict[str, Any] = {
        "response_format": ResponseFormat(schema=SCHEMA),
        "sampling": sampled(4),
        "max_tokens": 200,
    }
    whole = anew().solo(job("x", **fields))
    rest = anew().solo(job("y", resume=[Resume(tokens=whole.tokens[:cut])], **fields))
    assert rest.tokens == whole.tokens[cut:]
    assert fitting(whole.text)


@pytest.mark.parametrize("family", ["qwen2_vl", "llama", "gemma3"])
@pytest.mark.parametrize("parallel", [True, False])
def test_a_call_is_forced(family: str, parallel: bool, anew: MakeDriver) -> None:
    policy = ToolPolicy(tools=[WEATHER, CLOCK], mode="required", parallel=parallel)
    result = anew(family).solo(job("x", tool_policy=policy, sampling=sampled(2), max_tokens=600))
    calls = calls_of(result)
    assert result.finish_reason == "tool_calls"
    assert result.text == ""
    assert calls and (parallel or len(calls) == 1)
    for name, arguments in calls:
        assert name in ("get_weather", "get_time")
        assert name == "get_time" or arguments["city"] in ("Paris", "Rome")


def test_a_named_tool_is_the_one_that_is_called(anew: MakeDriver) -> None:
    policy = ToolPolicy(tools=[WEATHER, CLOCK], mode="required", name="get_time")
    for seed in range(4):
        made = job(str(seed), tool_policy=policy, sampling=sampled(seed), max_tokens=100)
        assert calls_of(anew().solo(made)) == [("get_time", {})]


def refers(*values: str) -> dict[str, Any]:
    """A schema that refers to a definition of its own, called as the others' are."""
    return {
        "type": "object",
        "properties": {"item": {"$ref": "#/$defs/Item"}},
        "required": ["item"],
        "additionalProperties": False,
        "$defs": {"Item": {"enum": list(values)}},
    }


def test_definitions_of_one_name_stay_with_their_tools(anew: MakeDriver) -> None:
    tools = [
        Tool(name="paint", parameters=refers("red")),
        Tool(name="play", parameters=refers("C")),
    ]
    policy = ToolPolicy(tools=tools, mode="required", parallel=False)
    driver = anew()
    right = {"paint": "red", "play": "C"}
    for seed in range(6):
        made = job(str(seed), tool_policy=policy, sampling=sampled(seed), max_tokens=300)
        ((name, arguments),) = calls_of(driver.solo(made))
        assert arguments == {"item": right[name]}


def test_a_schema_may_refer_to_itself(anew: MakeDriver) -> None:
    nested = {
        "type": "object",
        "properties": {"inner": {"anyOf": [{"$ref": "#"}, {"type": "null"}]}},
        "required": ["inner"],
        "additionalProperties": False,
    }
    policy = ToolPolicy(tools=[Tool(name="nest", parameters=nested)], mode="required")
    made = job("x", tool_policy=policy, sampling=sampled(1), max_tokens=600)
    for _, arguments in calls_of(anew().solo(made)):
        while arguments is not None:
            (arguments,) = arguments.values()


def test_a_form_leaves_the_model_free_to_call_a_tool_instead(anew: MakeDriver) -> None:
    driver = anew()
    tokenizer = driver.model.tokenizer
    mark = tokenizer.encode(language_of(driver.model).parser.tool_call_start)[0]
    fields: dict[str, Any] = {"response_format": ResponseFormat(schema=SCHEMA), "max_tokens": 200}
    policy = ToolPolicy(tools=[WEATHER])

    def asked(name: str, bias: float, **more: Any) -> Any:
        return job(name, sampling=sampled(1, logit_bias={mark: bias}), **{**fields, **more})

    calling = {"tool_policy": policy, "max_tokens": 12, "choices": 2}
    called = driver.solo(asked("calls", 100.0, **calling))
    assert called.failed is None
    assert called.tokens_of(0) == called.tokens_of(1) == [mark] * 12
    resumed = driver.solo(
        asked("resumed", 100.0, **calling, resume=[Resume(tokens=[mark] * 5)] * 2)
    )
    assert resumed.tokens_of(0) == [mark] * 7
    answered = driver.solo(asked("answers", -100.0, tool_policy=policy))
    fitting(answered.text)
    without_tools = driver.solo(asked("no tools", 100.0))
    assert without_tools.tokens[0] != mark


def test_tools_reach_the_model_and_earlier_calls_too(anew: MakeDriver) -> None:
    policy = ToolPolicy(tools=[WEATHER])
    call = ToolCall(id="c1", name="get_weather", arguments='{"city": "Paris"}')
    messages = [
        user("How is the weather?"),
        ChatMessage(role="assistant", tool_calls=[call]),
        ChatMessage(role="tool", tool_call_id="c1", content=[TextPart(text="Sunny.")]),
    ]
    for family in ("qwen2_vl", "llama"):
        driver = anew(family)
        made = job("x", messages, tool_policy=policy)
        text = driver.render(made)
        assert "get_weather" in text and "Sunny." in text
        assert driver.solo(made).failed is None


def test_thinking_is_free_and_the_answer_formed(anew: MakeDriver) -> None:
    """The template opens the model's thinking; the grammar holds from its end on."""
    driver = anew()
    end = driver.model.tokenizer.convert_tokens_to_ids("</think>")
    likely_end = sampled(1, logit_bias={end: 4.0})
    result = driver.solo(
        job(
            "x",
            response_format=ResponseFormat(schema=SCHEMA),
            template_options={"enable_thinking": True},
            sampling=likely_end,
            max_tokens=400,
        )
    )
    reasoning = "".join(delta.reasoning for delta in result.deltas)
    assert reasoning
    assert "</think>" not in reasoning + result.text
    fitting(result.text)
    assert 0 < result.done.usage.reasoning_tokens < result.done.usage.completion_tokens


def member(schema: Any) -> dict[str, Any]:
    """The schema of an object that has one member, `it`."""
    return {
        "type": "object",
        "properties": {"it": schema},
        "required": ["it"],
        "additionalProperties": False,
    }


@pytest.mark.parametrize("family", ["qwen2_vl", "llama", "gemma3"])
def test_what_looks_like_a_special_token_is_text(family: str, anew: MakeDriver) -> None:
    """Of whichever: each of the family's, in one answer."""
    driver = anew(family)
    added = driver.model.tokenizer.added_tokens_decoder.values()
    words = " ".join(str(one.content) * 2 for one in added if one.special)
    form = ResponseFormat(schema=member({"const": words}))
    made = job("x", response_format=form, sampling=sampled(1), max_tokens=1000)
    result = driver.solo(made)
    assert json.loads(result.text) == {"it": words}
    assert result.finish_reason == "stop"


@pytest.mark.parametrize(
    ("begun", "rest"),
    [('{"it": "', 'red"}'), ('{"it"', ': "red"}'), ('\n{"it": "re', 'd"}'), ('{"it": "red"}', "")],
)
def test_a_begun_answer_goes_on_in_its_form(begun: str, rest: str, anew: MakeDriver) -> None:
    form = ResponseFormat(schema=member({"const": "red"}))
    turns = [user("Which?"), assistant(begun)]
    fields: dict[str, Any] = {"sampling": sampled(1), "max_tokens": 60}
    made = job("x", turns, continue_final_message=True, response_format=form, **fields)
    result = anew().solo(made)
    assert (result.text, result.finish_reason) == (rest, "stop")


def test_a_call_is_not_begun_by_the_client(anew: MakeDriver) -> None:
    policy = ToolPolicy(tools=[WEATHER], mode="required", parallel=False)
    turns = [user("Call it."), assistant('[{"name": "get_weather", "arguments": {')]
    made = job("x", turns, continue_final_message=True, tool_policy=policy, max_tokens=60)
    failed = anew().solo(made).failed
    assert failed is not None and (failed.code, failed.param) == ("invalid_request", "messages")


def test_an_empty_beginning_is_none(anew: MakeDriver) -> None:
    policy = ToolPolicy(tools=[CLOCK], mode="required", parallel=False)
    turns = [user("Call it."), assistant("")]
    made = job("x", turns, continue_final_message=True, tool_policy=policy, max_tokens=60)
    assert calls_of(anew().solo(made)) == [("get_time", {})]


def test_a_model_that_never_ends_has_no_forms(anew: MakeDriver) -> None:
    """Nothing could follow a complete answer."""
    maker = GrammarMaker(anew().model.tokenizer, 100, frozenset({100}))
    made, _ = job("x", response_format=ResponseFormat(schema=SCHEMA))
    with pytest.raises(JobFault, match="no end token"):
        maker.make(made)
    free, _ = job("y")
    assert maker.make(free) is None

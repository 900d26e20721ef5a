"""gpt-oss's format: thoughts, answers and calls told apart, and no marker ever shown."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoTokenizer

from shared.messages import (
    ChatMessage,
    Job,
    ResponseFormat,
    Resume,
    TextPart,
    Tool,
    ToolCall,
    ToolPolicy,
)
from tests.properties import examples
from tests.worker.engine.conftest import MakeDriver
from tests.worker.engine.driving import job, sampled, user
from tests.worker.engine.model.test_families import reference
from worker.engine.text.answer import Answer, Language
from worker.engine.text.detokenizer import Vocabulary
from worker.engine.text.harmony import (
    BEGINNINGS,
    ENDS,
    MARKERS,
    SIGN,
    HarmonySplitter,
    signed,
    speaks_harmony,
)
from worker.engine.text.tools import CallNames, find_parser

PROMPT = "<|start|>user<|message|>How is it?<|end|><|start|>assistant"
THOUGHT = "<|channel|>analysis<|message|>Let me think.<|end|>"
SAID = "It is <b>sunny</b>."
FINAL = f"<|channel|>final<|message|>{SAID}<|return|>"
NEXT = "<|start|>assistant"
CALL = '<|channel|>commentary to=functions.look <|constrain|>json<|message|>{"at": "x<y"}<|call|>'
CALL_BEFORE = (
    ' to=functions.look<|channel|>commentary <|constrain|>json<|message|>{"at": "x<y"}<|call|>'
)
PREAMBLE = "<|channel|>commentary<|message|>I will look.<|end|>"
LOOK = ("look", {"at": "x<y"})
CUTS = st.lists(st.integers(0, 400), max_size=8)

PIECES = re.compile("|".join([*map(re.escape, sorted(MARKERS)), "."]), re.DOTALL)
"""Markers are tokens, and come whole."""

Found = tuple[str, str, list[tuple[str, Any]]]


def read(pieces: list[str], tools: list[str], prompt: str = PROMPT) -> Found:
    """Reasoning, content and calls, as a client would put them together."""
    splitter = HarmonySplitter(prompt, tools, CallNames("a", 0))
    said = [splitter.push(signed(piece)) for piece in pieces] + [splitter.finish()]
    calls: list[list[str]] = []
    for delta in splitter.take_calls():
        if delta.name:
            assert delta.index == len(calls) and delta.id
            calls.append([delta.name, ""])
        calls[delta.index][1] += delta.arguments
    parsed = [(name, json.loads(arguments)) for name, arguments in calls]
    return "".join(part[0] for part in said), "".join(part[1] for part in said), parsed


CASES: list[tuple[str, list[str], Found]] = [
    (THOUGHT + NEXT + FINAL, [], ("Let me think.", SAID, [])),
    (FINAL, [], ("", SAID, [])),
    (THOUGHT + NEXT + CALL, ["look"], ("Let me think.", "", [LOOK])),
    (THOUGHT + NEXT + CALL_BEFORE, ["look"], ("Let me think.", "", [LOOK])),
    (THOUGHT + NEXT + PREAMBLE + NEXT + CALL, ["look"], ("Let me think.", "I will look.", [LOOK])),
    (CALL.replace(" <|constrain|>", ""), ["look"], ("", "", [LOOK])),
    (CALL.replace('{"at": "x<y"}', ""), ["look"], ("", "", [("look", {})])),
    (CALL.replace("<|call|>", ""), ["look"], ("", "", [LOOK])),  # the last token is not shown
    # What nobody can call stays a thought.
    (CALL, [], ('{"at": "x<y"}', "", [])),
    (CALL.replace("functions.look", "browser.search"), ["look"], ('{"at": "x<y"}', "", [])),
    (PREAMBLE + NEXT + FINAL, [], ("I will look.", SAID, [])),
    (THOUGHT + NEXT + THOUGHT + NEXT + FINAL, [], ("Let me think.\nLet me think.", SAID, [])),
    (FINAL.replace("is", "<|message|>is<|constrain|>"), [], ("", SAID, [])),
    # The model forgets the format.
    ("Just so.", [], ("", "Just so.", [])),
    ("t", [], ("", "t", [])),
    (THOUGHT.replace("<|end|>", "") + NEXT + FINAL, [], ("Let me think.", SAID, [])),
    (THOUGHT.replace("<|end|>", "") + FINAL, [], ("Let me think.", SAID, [])),
    ("<|channel|>final", [], ("", "", [])),
    ("", [], ("", "", [])),
]


@pytest.mark.parametrize(("said", "tools", "expected"), CASES)
def test_messages_are_told_apart_however_they_are_cut(
    said: str, tools: list[str], expected: Found
) -> None:
    assert read([said], tools) == expected
    assert read(PIECES.findall(said), tools) == expected


@given(
    messages=st.lists(
        st.sampled_from([THOUGHT, PREAMBLE, FINAL, CALL, "loose <", "<|message|>"]), max_size=4
    ),
    cuts=CUTS,
)
@settings(max_examples=examples(300), deadline=None)
def test_no_cut_changes_anything_and_no_marker_shows(messages: list[str], cuts: list[int]) -> None:
    said = NEXT.join(messages)
    parts = PIECES.findall(said)
    places = sorted({0, len(parts), *(cut % (len(parts) + 1) for cut in cuts)})
    pieces = ["".join(parts[start:stop]) for start, stop in itertools.pairwise(places)]
    whole = read([said], ["look"])
    assert read(pieces, ["look"]) == whole
    assert not any(marker in part for marker in (*MARKERS, SIGN) for part in whole[:2])


@pytest.mark.parametrize(
    ("prompt", "thinking"),
    [
        (PROMPT, True),
        (PROMPT + "<|channel|>analysis<|message|>", True),
        (PROMPT + "<|channel|>final<|message|>It", False),
        ("no harmony at all", True),
    ],
)
def test_the_prompt_may_have_begun_the_answer(prompt: str, thinking: bool) -> None:
    assert HarmonySplitter(prompt, [], CallNames("a", 0)).thinking is thinking
    if "<|message|>" in prompt.rpartition("<|start|>")[2]:
        assert read([" is."], [], prompt) == ((" is.", "", []) if thinking else ("", " is.", []))


def test_a_name_that_ran_into_its_type_is_found() -> None:
    said = CALL.replace("look <|constrain|>json", "lookjson")
    assert read([said], ["look"])[2] == [LOOK]


def test_only_harmony_templates_are_harmony() -> None:
    assert speaks_harmony("{{ '<|start|>' }}<|channel|>analysis<|message|>")
    assert not speaks_harmony("<|im_start|>{{ x }}<|message|>")
    assert not speaks_harmony(None)


# --- from tokens, through a whole answer ---------------------------------------------------------


@pytest.fixture(scope="module")
def language(request: pytest.FixtureRequest) -> tuple[Language, Any]:
    checkpoint: Callable[[str], Path] = request.getfixturevalue("checkpoint")
    tokenizer = AutoTokenizer.from_pretrained(checkpoint("llama"))
    tokenizer.add_special_tokens({"additional_special_tokens": sorted(MARKERS)})
    ends = frozenset(tokenizer.convert_tokens_to_ids(end) for end in ENDS)
    parser = find_parser("<|channel|>commentary to=functions.x<|call|>")
    return Language(Vocabulary(tokenizer, MARKERS), ends, None, parser, harmony=True), tokenizer


def answered(language: tuple[Language, Any], said: str, made: Job, limit: int = 1000) -> Answer:
    answer = Answer(language[0], made, 0, PROMPT, limit)
    answer_parts.clear()
    for token in language[1].encode(said, add_special_tokens=False):
        answer_parts.append(answer.push(token))
        if answer.finish_reason is not None:
            break
    return answer


answer_parts: list[Any] = []


def test_an_answer_of_tokens_is_split_and_ends(language: tuple[Language, Any]) -> None:
    made, _ = job("x", stop=["sunny"])
    for said, text, reason in (
        (THOUGHT + NEXT + FINAL, "It is <b>", "stop"),
        (THOUGHT + NEXT + FINAL.replace("sunny", "wet"), "It is <b>wet</b>.", "stop"),
    ):
        answer = answered(language, said, made)
        assert "".join(piece.text for piece in answer_parts) == text
        assert "".join(piece.reasoning for piece in answer_parts) == "Let me think."
        assert answer.finish_reason == reason
        assert 0 < answer.reasoning_tokens < len(answer.tokens)


@pytest.mark.parametrize("call", [CALL, CALL_BEFORE])
def test_a_call_ends_the_answer_as_a_call(language: tuple[Language, Any], call: str) -> None:
    made, _ = job("x", tool_policy=ToolPolicy(tools=[Tool(name="look")]))
    answer = answered(language, THOUGHT + NEXT + call, made)
    assert answer.finish_reason == "tool_calls"
    deltas = [delta for piece in answer_parts for delta in piece.tool_calls]
    assert [delta.name for delta in deltas if delta.name] == ["look"]
    assert json.loads("".join(delta.arguments for delta in deltas)) == {"at": "x<y"}
    assert len(deltas) > 3, "arguments come as they are made"
    assert "".join(piece.text for piece in answer_parts) == ""


def test_a_grammar_would_hold_in_the_final_message_alone(language: tuple[Language, Any]) -> None:
    made, _ = job("x")
    answer = Answer(language[0], made, 0, PROMPT, 1000)
    thinking = []
    for token in language[1].encode(THOUGHT + NEXT + FINAL, add_special_tokens=False):
        thinking.append(answer.thinking)
        answer.push(token)
    final = len(language[1].encode("It is <b>sunny</b>.<|return|>", add_special_tokens=False))
    assert thinking == [True] * (len(thinking) - final) + [False] * final


def test_a_call_that_is_cut_off_is_no_whole_call(language: tuple[Language, Any]) -> None:
    made, _ = job("x", tool_policy=ToolPolicy(tools=[Tool(name="look")]))
    whole = answered(language, CALL, made)
    cut = answered(language, CALL, made, limit=len(whole.tokens) - 3)
    assert cut.finish_reason == "length"


# --- a gpt-oss network with random weights -------------------------------------------------------


def test_gpt_oss_is_answered_as_mlx_vlm_does_alone_and_in_company(
    anew: MakeDriver, checkpoint: Callable[[str], Path]
) -> None:
    jobs = [job("1", "Hello"), job("2", "How many shapes are there? " * 8), job("3", "And you?")]
    driver = anew("gpt_oss")
    alone = [driver.solo(made) for made in jobs]
    for made, solo in zip(jobs, alone, strict=True):
        text = driver.render(made)
        expected = reference(checkpoint("gpt_oss"), text, [], 10)
        assert solo.tokens and solo.tokens == expected[: len(solo.tokens)]
    together = anew("gpt_oss", prefix_cache_bytes=0).run(*jobs)
    assert [result.tokens for result in together] == [solo.tokens for solo in alone]


def test_a_call_of_the_model_ends_its_turn_and_returns_to_it(anew: MakeDriver) -> None:
    """What it called and thought stands in the next turn's prompt where its template wants it."""
    driver = anew("gpt_oss")
    ends = driver.model.tokenizer.convert_tokens_to_ids(list(ENDS))
    assert set(ends) <= driver.model.eos_ids
    call = ToolCall(id="c", name="look", arguments='{"at": 1}')
    messages = [
        user("Look."),
        ChatMessage(role="assistant", reasoning="I must.", tool_calls=[call]),
        ChatMessage(role="tool", tool_call_id="c", content=[TextPart(text="Seen.")]),
    ]
    made = job("x", messages, tool_policy=ToolPolicy(tools=[Tool(name="look")]))
    text = driver.render(made)
    assert "<|channel|>analysis<|message|>I must.<|end|>" in text
    assert 'commentary to=functions.look <|constrain|>json<|message|>{"at": 1}<|call|>' in text


def test_a_demanded_form_is_kept_in_the_final_message(anew: MakeDriver) -> None:
    """It has begun it already, on another worker."""
    driver = anew("gpt_oss")
    encode = driver.model.tokenizer.encode
    head = encode("<|channel|>final<|message|>", add_special_tokens=False)
    schema = {"type": "object", "properties": {"a": {"enum": ["b", "c"]}}, "required": ["a"]}
    made = job(
        "x",
        response_format=ResponseFormat(schema={**schema, "additionalProperties": False}),
        sampling=sampled(1),
        max_tokens=100,
        resume=[Resume(tokens=head)],
    )
    result = driver.solo(made)
    assert json.loads(result.text)["a"] in ("b", "c")
    assert (result.finish_reason, result.deltas[0].reasoning) == ("stop", "")


@pytest.mark.parametrize(
    "spelled", ["<|start|>", "<|start|>assistant<|channel|>analysis<|message|>"]
)
def test_marks_in_what_the_client_has_begun_are_text(anew: MakeDriver, spelled: str) -> None:
    """They open no other message, whose text would not be the answer's."""
    driver = anew("gpt_oss")
    word = {"const": f"{spelled}red"}
    schema = {"type": "object", "properties": {"it": word}, "required": ["it"]}
    turns = [
        user("Which?"),
        ChatMessage(role="assistant", content=[TextPart(text=f'{{"it": "{spelled}r')]),
    ]
    form = ResponseFormat(schema=schema)
    made = job("x", turns, continue_final_message=True, response_format=form, max_tokens=30)
    result = driver.solo(made)
    assert not any(delta.reasoning for delta in result.deltas)
    assert (result.text, result.finish_reason) == ('ed"}', "stop")


def test_markers_that_are_spelled_in_letters_are_text(anew: MakeDriver) -> None:
    """The model writes about its own format, or has to."""
    driver = anew("gpt_oss")
    words = " ".join(sorted(MARKERS))
    schema = {"type": "object", "properties": {"it": {"const": words}}, "required": ["it"]}
    head = driver.model.tokenizer.encode("<|channel|>final<|message|>", add_special_tokens=False)
    form = ResponseFormat(schema=schema)
    made = job("x", response_format=form, resume=[Resume(tokens=head)], max_tokens=200)
    result = driver.solo(made)
    assert json.loads(result.text) == {"it": words}
    assert result.finish_reason == "stop"


def test_where_a_form_is_demanded_the_answer_begins_with_a_head(anew: MakeDriver) -> None:
    """Words without one would be the answer's, and in no form."""
    driver = anew("gpt_oss")
    heads = set(driver.model.tokenizer.convert_tokens_to_ids(list(BEGINNINGS)))
    form = ResponseFormat()
    for seed in range(4):
        made = job(str(seed), response_format=form, sampling=sampled(seed), choices=2)
        result = driver.solo(made)
        assert {result.tokens_of(choice)[0] for choice in range(2)} <= heads
    free = [driver.solo(job(f"free{seed}", sampling=sampled(seed))) for seed in range(4)]
    assert not all(result.tokens[0] in heads for result in free)


@pytest.mark.parametrize("end", ["", "<|start|>assistant<|channel|>analysis<|message|>"])
def test_a_raw_prompts_answer_is_all_text(anew: MakeDriver, end: str) -> None:
    driver = anew("gpt_oss")
    channel = driver.model.tokenizer.convert_tokens_to_ids("<|channel|>")
    often = sampled(1, logit_bias={channel: 6.0})
    answer = driver.solo(job("x", prompt=f"What is it?{end}", sampling=often, max_tokens=30))
    assert not any(delta.reasoning for delta in answer.deltas)
    assert answer.text.count("<|channel|>") == answer.tokens.count(channel) > 0

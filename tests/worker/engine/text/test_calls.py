"""Tool calls: told from text, in OpenAI's shape, whatever the model makes of them."""

from __future__ import annotations

import itertools
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.messages import ToolCallDelta
from tests.properties import examples
from worker.engine.text.tools import CallNames, ForcedCallReader, MarkedCallReader, find_parser

TOOLS = [{"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}]
CALL = '<tool_call>\n{"name": "look", "arguments": {"at": "the </left>"}}\n</tool_call>'
CUTS = st.lists(st.integers(0, 300), max_size=8)


def pieces_of(text: str, cuts: list[int]) -> list[str]:
    places = sorted({0, len(text), *(cut % (len(text) + 1) for cut in cuts)})
    return [text[start:stop] for start, stop in itertools.pairwise(places)]


def read(reader: Any, pieces: list[str]) -> tuple[str, list[tuple[str, str, str]]]:
    """The text and the calls (id, name, arguments) that a client would put together."""
    parts = [reader.push(piece) for piece in pieces] + [reader.finish()]
    calls: dict[int, list[str]] = {}
    for _, deltas in parts:
        for delta in deltas:
            assert isinstance(delta, ToolCallDelta)
            call = calls.setdefault(delta.index, ["", "", ""])
            assert bool(delta.id) == (call == ["", "", ""]), "id and name come first, and once"
            call[0] += delta.id
            call[1] += delta.name
            call[2] += delta.arguments
    assert sorted(calls) == list(range(len(calls)))
    return "".join(text for text, _ in parts), [(c[0], c[1], c[2]) for c in calls.values()]


def marked() -> MarkedCallReader:
    return MarkedCallReader(find_parser(None), TOOLS, CallNames("a", 0))


@given(CUTS, st.sampled_from(["", "I look. "]), st.sampled_from(["", "\n", " Done."]))
@settings(max_examples=examples(300), deadline=None)
def test_calls_are_read_however_the_text_is_cut(cuts: list[int], before: str, after: str) -> None:
    said = before + CALL + "\n" + CALL + after
    text, calls = read(marked(), pieces_of(said, cuts))
    assert [(name, json.loads(arguments)) for _, name, arguments in calls] == [
        ("look", {"at": "the </left>"})
    ] * 2
    assert text == before + after.lstrip()
    assert (text, calls) == read(marked(), list(said))


@pytest.mark.parametrize(
    "said",
    [
        "<tool_call>not json</tool_call>",
        '<tool_call>{"name": "look"</tool_call> more',
        '<tool_call>{"no_name": 1}</tool_call>',
        "<tool_call>[1, 2]</tool_call>",
        "<tool_call>",
        "<tool_ca",
        "<tool_call>{}",
    ],
)
def test_a_malformed_call_is_text(said: str) -> None:
    assert read(marked(), [said]) == (said, [])
    assert read(marked(), list(said)) == (said, [])


def test_a_call_without_its_end_marker_counts_if_it_is_whole() -> None:
    text, calls = read(marked(), ['<tool_call>{"name": "look", "arguments": {}}'])
    assert (text, [call[1:] for call in calls]) == ("", [("look", "{}")])


def test_ids_are_the_same_on_every_worker_and_differ_within_an_answer() -> None:
    _, first = read(marked(), [CALL + CALL])
    _, again = read(marked(), [CALL + CALL])
    _, other = read(MarkedCallReader(find_parser(None), TOOLS, CallNames("a", 1)), [CALL])
    assert first == again
    assert len({call[0] for call in [*first, *other]}) == 3
    assert all(call[0].startswith("call_") for call in first)


@given(
    st.lists(
        st.dictionaries(st.text(max_size=3), st.text(max_size=6) | st.integers(), max_size=3),
        min_size=1,
        max_size=3,
    ),
    CUTS,
)
@settings(max_examples=examples(300), deadline=None)
def test_forced_calls_are_passed_on_as_they_come(all_arguments: list[Any], cuts: list[int]) -> None:
    said = json.dumps([{"name": "look", "arguments": a} for a in all_arguments])
    for pieces in ([said], list(said), pieces_of(said, cuts)):
        text, calls = read(ForcedCallReader(CallNames("a", 0)), pieces)
        assert text == ""
        assert [json.loads(arguments) for _, _, arguments in calls] == all_arguments


@pytest.mark.parametrize(
    ("template", "said"),
    [
        ("[TOOL_CALLS]", '[TOOL_CALLS][{"name": "look", "arguments": {"at": 1}}]'),
        (
            "<tool_call>\n<function=",
            "<tool_call>\n<function=look>\n<parameter=at>\n1\n</parameter>\n</function>\n"
            "</tool_call>",
        ),
    ],
)
def test_each_family_has_its_own_way(template: str, said: str) -> None:
    parser = find_parser(template)
    _, calls = read(MarkedCallReader(parser, TOOLS, CallNames("a", 0)), list(said))
    assert [name for _, name, _ in calls] == ["look"]
    assert str(json.loads(calls[0][2])["at"]) == "1"

"""Text from tokens: the same however it is cut, never half a character, never a stop string."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from transformers import AutoTokenizer

from tests.properties import examples
from worker.engine.text.detokenizer import WINDOW_TOKENS, Vocabulary, WindowDetokenizer
from worker.engine.text.reasoning import ReasoningSplitter, ThinkMarkers, find_markers
from worker.engine.text.stop import StopFinder

THINK = ThinkMarkers("<think>", "</think>")
LETTERS = st.text(alphabet="ab<>", max_size=12)


def pieces_of(text: str, cuts: list[int]) -> list[str]:
    """Cut a text at the given places (taken modulo its length)."""
    places = sorted({0, len(text), *(cut % (len(text) + 1) for cut in cuts)})
    return [text[start:stop] for start, stop in itertools.pairwise(places)]


CUTS = st.lists(st.integers(0, 40), max_size=6)


# --- stop strings --------------------------------------------------------------------------------


def stopped(pieces: list[str], stops: list[str]) -> tuple[str, str | None]:
    finder = StopFinder(stops)
    said = "".join(finder.push(piece) for piece in pieces)
    return said + finder.finish(), finder.match


@given(LETTERS, CUTS, st.lists(st.text(alphabet="ab<>", min_size=1, max_size=4), max_size=3))
@settings(max_examples=examples(500), deadline=None)
def test_stops_are_found_however_the_text_is_cut(
    text: str, cuts: list[int], stops: list[str]
) -> None:
    whole, cut = stopped([text], stops), stopped(pieces_of(text, cuts), stops)
    single = stopped(list(text), stops)
    assert whole == cut == single
    said, found = whole
    assert (found is not None) == any(stop in text for stop in stops)
    assert found is None or found in stops
    assert text.startswith(said)
    if found is None:
        assert said == text
    else:
        assert text.startswith(said + found)


def test_only_what_may_begin_a_stop_is_held_back() -> None:
    finder = StopFinder(["END"])
    assert finder.push("an E") == "an "
    assert finder.push("N") == ""
    assert finder.push("ergy") == "ENergy"
    assert finder.push("EN") == ""
    assert finder.finish() == "EN"


# --- reasoning -----------------------------------------------------------------------------------


def split(pieces: list[str], prompt: str = "") -> tuple[str, str]:
    splitter = ReasoningSplitter(THINK, prompt)
    parts = [splitter.push(piece) for piece in pieces] + [splitter.finish()]
    return "".join(part[0] for part in parts), "".join(part[1] for part in parts)


@pytest.mark.parametrize(
    ("said", "prompt", "reasoning", "content"),
    [
        ("<think>\nLet me see.\n</think>\n\nBlue.", "", "Let me see.", "Blue."),
        ("Let me see.\n</think>\nBlue.", "assistant\n<think>\n", "Let me see.", "Blue."),
        ("Just blue.", "", "", "Just blue."),
        ("Mind <think> this.", "", "", "Mind <think> this."),
        ("<think></think>Blue.", "", "", "Blue."),
        ("<think>never done", "", "never done", ""),
        ("<thin", "", "", "<thin"),
        ("", "", "", ""),
    ],
)
def test_thoughts_are_told_from_the_answer(
    said: str, prompt: str, reasoning: str, content: str
) -> None:
    assert split([said], prompt) == (reasoning, content)
    assert split(list(said), prompt) == (reasoning, content)


@given(st.text(alphabet="x \n", max_size=6), st.text(alphabet="y \n", max_size=6), CUTS)
@settings(max_examples=examples(300), deadline=None)
def test_thoughts_do_not_depend_on_the_cuts(thought: str, answer: str, cuts: list[int]) -> None:
    said = f"<think>{thought}</think>{answer}"
    assert split(pieces_of(said, cuts)) == split([said]) == split(list(said))


def test_markers_come_from_the_template() -> None:
    assert find_markers("{{ x }}<think>\n</think>") == THINK
    assert find_markers("{{ x }}") is None
    assert find_markers(None) is None


# --- detokenizing --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def tokenizer(request: pytest.FixtureRequest) -> Any:
    checkpoint: Callable[[str], Path] = request.getfixturevalue("checkpoint")
    return AutoTokenizer.from_pretrained(checkpoint("qwen2_vl"))


def said(detokenizer: Any, tokens: list[int]) -> tuple[str, list[str]]:
    parts = [detokenizer.push(token) for token in tokens]
    last = detokenizer.finish()
    return "".join(parts) + last, [*parts, last]


@given(text=st.text(max_size=30))
@settings(max_examples=examples(300), deadline=None)
def test_tokens_become_the_text_that_they_were(tokenizer: Any, text: str) -> None:
    assume(not any(special in text for special in tokenizer.all_special_tokens))
    tokens = tokenizer.encode(text, add_special_tokens=False)
    whole, parts = said(Vocabulary(tokenizer).detokenizer(), tokens)
    assert whole == text
    if "\ufffd" not in text:
        assert not any("\ufffd" in part for part in parts)


@given(tokens=st.lists(st.integers(0, 255), max_size=20))
@settings(max_examples=examples(300), deadline=None)
def test_any_tokens_become_what_the_tokenizer_decodes(tokenizer: Any, tokens: list[int]) -> None:
    whole, _ = said(Vocabulary(tokenizer).detokenizer(), tokens)
    assert whole == tokenizer.decode(tokens)


@given(text=st.text(alphabet="ab é你🙂", max_size=30))
@settings(max_examples=examples(200), deadline=None)
def test_a_tokenizer_of_an_unknown_kind_is_read_through_a_window(tokenizer: Any, text: str) -> None:
    tokens = tokenizer.encode(text, add_special_tokens=False)
    whole, parts = said(WindowDetokenizer(tokenizer, frozenset()), tokens)
    assert whole == text
    assert not any("\ufffd" in part for part in parts)


def test_a_window_is_read_in_time_that_is_linear(tokenizer: Any) -> None:
    """Counted in tokens decoded: no step looks at the whole answer again."""
    decoded = []

    class Counting:
        def decode(self, tokens: list[int]) -> str:
            decoded.append(len(tokens))
            return str(tokenizer.decode(tokens))

    tokens = tokenizer.encode("naïve 🙂 " * 100, add_special_tokens=False)
    whole, _ = said(WindowDetokenizer(Counting(), frozenset()), tokens)
    assert whole == "naïve 🙂 " * 100
    assert len(tokens) > 300
    assert max(decoded) <= 2 * WINDOW_TOKENS


def test_special_tokens_are_silent_unless_they_mean_something(tokenizer: Any) -> None:
    mark = tokenizer.convert_tokens_to_ids("<|im_start|>")
    assert Vocabulary(tokenizer).detokenizer().push(mark) == ""
    shown = Vocabulary(tokenizer, frozenset({"<|im_start|>"}))
    assert shown.detokenizer().push(mark) == "<|im_start|>"
    plain = tokenizer.convert_tokens_to_ids("<think>")
    assert Vocabulary(tokenizer).detokenizer().push(plain) == "<think>"


def test_an_id_beyond_the_tokenizer_says_nothing(tokenizer: Any) -> None:
    assert Vocabulary(tokenizer).detokenizer().push(10**6) == ""

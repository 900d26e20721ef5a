"""The count of values before parsing agrees with what parsing finds, wherever the text is cut."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from gateway.http.json_marks import MarkCounter

TEXTS = st.text(st.sampled_from('",[]{}\\:a0\n\u00e9'), max_size=12)
VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.integers() | TEXTS,
    lambda values: st.lists(values, max_size=4) | st.dictionaries(TEXTS, values, max_size=4),
)


def marks(value: Any) -> int:
    """Commas and opening brackets of a value's JSON, its strings' own aside."""
    if isinstance(value, dict | list):
        inner = value.values() if isinstance(value, dict) else value
        return 1 + max(0, len(value) - 1) + sum(map(marks, inner))
    return 0


def members(value: Any) -> int:
    if isinstance(value, dict):
        return len(value) + sum(map(members, value.values()))
    return sum(map(members, value)) if isinstance(value, list) else 0


@given(VALUES, st.lists(st.integers(0, 200), max_size=4), st.booleans())
def test_marks_outside_strings_are_counted(value: Any, cuts: list[int], ascii_only: bool) -> None:
    text = json.dumps(value, ensure_ascii=ascii_only).encode()
    counter = MarkCounter()
    for begin, end in zip([0, *sorted(cuts)], [*sorted(cuts), len(text)], strict=True):
        counter.add(text[begin:end])
    assert counter.marks == marks(value)
    assert counter.members == members(value)
    assert counter.quotes % 2 == 0
    assert counter.quotes <= 4 * counter.marks + 4


@given(VALUES)
def test_it_may_come_byte_by_byte(value: Any) -> None:
    counter = MarkCounter()
    for byte in json.dumps(value).encode():
        counter.add(bytes([byte]))
    assert counter.marks == marks(value)

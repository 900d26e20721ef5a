"""What a client expects to be answered, followed by what is answered."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.properties import examples
from worker.engine.drafts.lookup import Lookup
from worker.engine.drafts.prediction import RUN, Prediction
from worker.engine.drafts.source import FirstOf

TEXT = list(range(100, 140))


def accepted(expected: list[int], said: list[int]) -> int:
    return Prediction(expected, said).accepted


def test_an_answer_as_expected_is_drafted_to_its_end() -> None:
    prediction = Prediction(TEXT)
    assert prediction.draft(4) == TEXT[:4]
    for number, token in enumerate(TEXT):
        prediction.push(token)
        assert prediction.draft(50) == TEXT[number + 1 :]
    assert (prediction.accepted, prediction.rejected) == (40, 0)
    prediction.push(7)
    assert (prediction.accepted, prediction.draft(4)) == (40, [])


def test_nothing_expected_has_come() -> None:
    other = Prediction(TEXT, [1, 2, 3, 4])
    assert (other.accepted, other.rejected, other.draft(4)) == (0, 40, [])


def test_one_token_may_take_the_place_of_another() -> None:
    assert accepted(TEXT, [*TEXT[:10], 7, *TEXT[11:]]) == 39


def test_more_or_less_than_was_expected_is_got_over() -> None:
    inserted = accepted(TEXT, [*TEXT[:10], 7, 8, 9, *TEXT[10:]])
    assert inserted == 40 - RUN
    left_out = accepted(TEXT, [*TEXT[:10], *TEXT[20:]])
    assert left_out == 30 - RUN


def test_it_goes_forwards_only() -> None:
    """What was expected once comes once."""
    assert accepted(TEXT, [*TEXT, *TEXT]) == 40
    assert accepted([5] * 10, [5] * 30) == 10


tokens = st.lists(st.integers(0, 2), max_size=30)


@settings(max_examples=examples(200), deadline=None)
@given(expected=tokens, said=tokens, cut=st.integers(0, 30))
def test_it_depends_on_the_two_texts_alone(expected: list[int], said: list[int], cut: int) -> None:
    whole, resumed = Prediction(expected, said), Prediction(expected, said[:cut])
    for token in said[cut:]:
        resumed.push(token)
    assert resumed.accepted == whole.accepted
    assert resumed.draft(9) == whole.draft(9)
    assert 0 <= whole.accepted <= min(len(expected), len(said))
    assert whole.accepted + whole.rejected == len(expected)


def test_where_nothing_is_expected_it_is_looked_up() -> None:
    both = FirstOf(Prediction([1, 2]), Lookup([5, 6, 7, 8, 5, 6]))
    assert both.draft(1) == [1]
    for token in (9, 9, 7, 8, 5, 6, 7):
        both.push(token)
    assert both.draft(2) == [8, 5]

"""Drafts are tried where they pay, and a row that does not gain by them stops."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.properties import examples
from worker.engine.drafts.policy import EXTRAS, MOST_DRAFTED, MOST_PLACES, Costs, Record, widths

DEAR = Costs({1: {1: 1.9, 4: 4.6, 16: 16.0}})
FAIR = Costs({1: {1: 1.2, 4: 1.3, 16: 1.7}, 8: {1: 1.2, 4: 2.2, 16: 6.0}})


def record(rate: float, tokens: int = 400) -> Record:
    """Of a row whose drafted tokens were right so often."""
    made, chance = Record(), random.Random(1)
    for _ in range(tokens):
        made.note(1, int(chance.random() < rate))
    while made.rests:
        made.pass_over()
    return made


def test_costs_lie_on_lines_between_what_was_measured() -> None:
    assert FAIR.of(1, 0) == FAIR.of(8, 0) == 1.0
    assert FAIR.of(1, 4) == pytest.approx(1.3)
    assert FAIR.of(1, 10) == pytest.approx(1.5)
    assert FAIR.of(4, 1) == pytest.approx(1.2)
    assert 1.3 < FAIR.of(4, 4) < 2.2
    # 16 rows of 1 token are as many as 8 of 2, 16 of 2 as 8 of 4, 16 of 5 as 8 of 10.
    assert FAIR.of(16, 0) == 1.0
    assert FAIR.of(16, 1) == pytest.approx(FAIR.of(8, 3) / FAIR.of(8, 1))
    assert FAIR.of(16, 4) == pytest.approx(FAIR.of(8, 9) / FAIR.of(8, 1))
    assert Costs({1: {1: 1.2, 4: 1.5}}).of(1, 16) == pytest.approx(2.7)
    assert Costs().of(8, 16) == 1.0


def test_a_row_is_known_by_what_became_of_its_drafts() -> None:
    assert record(0.9).rate == pytest.approx(0.9, abs=0.1)
    assert record(0.5).rate == pytest.approx(0.5, abs=0.2)
    sure = record(1.0)
    assert sure.expected(16) > 15
    assert record(0.5).expected(16) < 2


def test_the_surer_a_row_is_the_more_it_tries() -> None:
    tried = [widths([16], [record(rate)], FAIR)[0] for rate in (0.5, 0.8, 0.9, 1.0)]
    assert tried[0] < tried[-1] and tried[-1] == MOST_DRAFTED
    assert tried == sorted(tried)


def test_what_costs_as_much_as_it_brings_is_not_tried() -> None:
    assert widths([16], [record(1.0)], DEAR) == [0]
    assert widths([16, 0, 0, 0, 0, 0, 0, 0], [record(1.0)] * 8, FAIR) == [0] * 8
    assert min(widths([16] * 8, [record(1.0)] * 8, FAIR)) > 0


def test_a_row_that_is_wrong_stops_and_tries_again_later() -> None:
    wrong, tried = Record(), []
    for _ in range(2000):
        (width,) = widths([16], [wrong], FAIR)
        tried.append(width)
        if width:
            wrong.note(width, 0)
    assert sum(map(bool, tried[:100])) < 15
    assert 1 <= sum(map(bool, tried[1000:])) < 20
    for _ in range(600):  # from now on it is right
        (width,) = widths([16], [wrong], FAIR)
        if width:
            wrong.note(width, width)
    assert widths([16], [wrong], FAIR) == [MOST_DRAFTED]


def test_while_nothing_is_measured_everything_is_tried() -> None:
    wrong = Record()
    while not wrong.rests:
        wrong.note(1, 0)
    assert widths([16, 3, 0], [wrong, wrong, wrong], Costs()) == [16, 3, 0]


def test_one_that_rests_does_not_keep_the_others_from_it() -> None:
    wrong, right = record(0.0), record(1.0)
    while not wrong.rests:
        wrong.note(1, 0)
    assert widths([16, 16], [wrong, right], FAIR) == [0, 16]


@settings(max_examples=examples(200), deadline=None)
@given(
    drafted=st.lists(st.integers(0, MOST_DRAFTED), min_size=1, max_size=64),
    rates=st.lists(st.sampled_from([0.0, 0.5, 1.0]), min_size=64, max_size=64),
    costs=st.sampled_from([Costs(), FAIR, DEAR]),
)
def test_no_row_tries_more_than_it_has_and_no_pass_is_too_large(
    drafted: list[int], rates: list[float], costs: Costs
) -> None:
    records = [record(rate, 20) for rate in rates[: len(drafted)]]
    tried = widths(drafted, records, costs)
    assert all(mine <= most for mine, most in zip(tried, drafted, strict=True))
    assert len(drafted) * (1 + max(tried)) <= max(MOST_PLACES, len(drafted))
    assert max(tried) <= max(EXTRAS)

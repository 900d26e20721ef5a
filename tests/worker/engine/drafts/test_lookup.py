"""Drafts from earlier tokens, against a search through all of them."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.properties import examples
from worker.engine.drafts.lookup import LEAST_PLACES, MOST_PLACES, RUNS, Lookup

FEW = st.lists(st.integers(0, 1), max_size=80)
"""Of so few kinds of token that runs come again; and no two of them have the same place."""


def searched(tokens: list[int], most: int) -> list[int]:
    """What followed the last earlier place of the longest run that is looked up."""
    for run in RUNS:
        newest = tokens[-run:]
        for end in range(len(tokens) - 1, run - 1, -1):
            if tokens[end - run : end] == newest:
                return [(tokens[end:] * most)[number] for number in range(most)]
    return []


@settings(max_examples=examples(300), deadline=None)
@given(begun=FEW, more=FEW, most=st.integers(1, 12))
def test_a_draft_is_what_followed_the_last_time(
    begun: list[int], more: list[int], most: int
) -> None:
    lookup, said = Lookup(begun, more=MOST_PLACES), list(begun)
    assert lookup.draft(most) == searched(said, most)
    for token in more:
        lookup.push(token)
        said.append(token)
        assert len(lookup) == len(said)
        assert lookup.draft(most) == searched(said, most)


@settings(max_examples=examples(100), deadline=None)
@given(said=st.lists(st.integers(0, (1 << 31) - 1), max_size=40), again=st.integers(0, 40))
def test_tokens_taken_in_one_by_one_are_the_same_as_all_at_once(
    said: list[int], again: int
) -> None:
    said = said + said[:again]
    whole, grown = Lookup(said), Lookup()
    for token in said:
        grown.push(token)
    assert whole.draft(8) == grown.draft(8)


@settings(max_examples=examples(100), deadline=None)
@given(said=FEW)
def test_tables_that_are_too_small_forget_and_do_not_invent(said: list[int]) -> None:
    drafted = Lookup(said, most_places=4).draft(1)
    run = min(RUNS)
    followers = [said[end] for end in range(run, len(said)) if said[end - run : end] == said[-run:]]
    assert not drafted or drafted[0] in followers


def test_what_is_new_has_no_draft() -> None:
    assert Lookup(range(100)).draft(4) == []
    assert Lookup([]).draft(4) == []
    assert Lookup([5] * min(RUNS)).draft(4) == []


def test_a_long_row_takes_bounded_memory_beside_its_tokens() -> None:
    count = 4 * MOST_PLACES
    lookup = Lookup([number * 7919 % 50_021 for number in range(count)])
    assert lookup.nbytes <= 4 * count + len(RUNS) * 4 * MOST_PLACES
    assert Lookup(range(100), more=100).nbytes == 4 * 100 + len(RUNS) * 4 * LEAST_PLACES

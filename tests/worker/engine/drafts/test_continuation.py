"""A row that a draft model follows: what it has drafted, and what its cache still holds."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from worker.engine.drafts.continuation import Continuation

UNKNOWN = 9


def row(*prompt: int) -> Continuation[None]:
    return Continuation(prompt, (), None, UNKNOWN)


@given(
    prompt=st.lists(st.integers(0, UNKNOWN), max_size=5),
    rounds=st.lists(
        st.tuples(
            st.lists(st.integers(0, 3), min_size=1, max_size=4),
            st.lists(st.sampled_from([0, 1, 2, 3, UNKNOWN]), max_size=6),
        ),
        max_size=6,
    ),
)
def test_what_is_kept_of_a_cache_is_what_the_row_has_said(
    prompt: list[int], rounds: list[tuple[list[int], list[int]]]
) -> None:
    mine, said = row(*prompt), []
    for drafted, says in rounds:
        mine.take(drafted)
        cached = [*mine.tokens, *drafted[:-1]]
        for token in says:
            mine.push(token)
            said.append(token)
            right = [one == other for one, other in zip(drafted, says, strict=False)]
            assert mine.tokens[: mine.read] == cached[: mine.read]
            assert all(right) or mine.read >= len(cached) - len(drafted[:-1])
        if says == drafted[: len(says)]:
            assert mine.draft(9) == drafted[len(says) :]
    assert mine.said == len(said)
    assert mine.tokens == [token for token in (*prompt, *said) if token != UNKNOWN]


def test_a_draft_goes_on_as_long_as_it_is_right() -> None:
    mine = row(1, 2)
    mine.take([5, 6, 7])
    mine.push(5)
    assert mine.draft(9) == [6, 7] and mine.draft(1) == [6]
    mine.push(8)
    assert mine.draft(9) == []
    assert mine.tokens[: mine.read] == [1, 2, 5]

"""How much is prefilled between two steps of those who run."""

from __future__ import annotations

import pytest

from worker.engine.schedule.pacer import Pacer

STEP_S = 0.01


def paced(*steps_s: float) -> Pacer:
    pacer = Pacer(prefill_pause_s=0.05)
    pacer.note_newcomers(tokens=2000, waiting=1, running=8)
    for seconds in steps_s:
        pacer.note_step(seconds)
    return pacer


def test_a_long_newcomer_gets_about_the_time_of_a_step() -> None:
    assert paced(*[STEP_S] * 5).allowance_s == pytest.approx(STEP_S)


def test_one_slow_step_does_not_make_the_streams_wait_longer() -> None:
    assert paced(*[STEP_S] * 5, 100 * STEP_S).allowance_s == pytest.approx(STEP_S)


def test_when_steps_become_slower_prefilling_may_too() -> None:
    pacer = paced(*[STEP_S] * 50, *[3 * STEP_S] * Pacer.REMEMBERED)
    assert pacer.allowance_s == pytest.approx(3 * STEP_S)


def test_chunks_come_to_take_the_time_that_they_may() -> None:
    """On a machine where a token takes 20 microseconds, whatever the first guess."""
    pacer = paced(*[STEP_S] * 5)
    for _ in range(30):
        tokens = pacer.chunk(decoding=True)
        pacer.note_chunk(tokens, tokens * 20e-6)
    assert 0.5 * STEP_S <= pacer.chunk(decoding=True) * 20e-6 <= STEP_S


def test_those_who_wait_are_hurried_when_they_are_more() -> None:
    pacer = paced(*[STEP_S] * 5)
    gentle = pacer.chunk(decoding=True)
    pacer.note_newcomers(tokens=2000, waiting=9, running=8)
    assert pacer.allowance_s == pytest.approx(0.05)
    assert pacer.chunk(decoding=True) > gentle
    assert pacer.chunk(decoding=False) == Pacer.LARGEST

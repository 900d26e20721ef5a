"""How much is prefilled between two steps of those who run."""

from __future__ import annotations

import pytest

from worker.engine.schedule.pacer import LONGEST_WORK_S, Pacer

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


def test_steps_beside_newcomers_tell_where_there_are_no_others() -> None:
    """Where somebody comes at every step, those before say little of how long they take now."""
    pacer = paced(*[STEP_S] * 5)
    for number in range(Pacer.REMEMBERED):
        pacer.note_step((4 + number % 2) * STEP_S, disturbed=True)
        assert pacer.allowance_s == pytest.approx(STEP_S)
    pacer.note_step(5 * STEP_S, disturbed=True)
    assert pacer.allowance_s == pytest.approx(4 * STEP_S)
    pacer.note_step(STEP_S)
    assert pacer.allowance_s == pytest.approx(STEP_S)


def test_no_piece_is_left_that_would_be_smaller_than_the_smallest() -> None:
    pacer = paced(*[STEP_S] * 5)
    while (tokens := pacer.chunk(decoding=True)) > Pacer.SMALLEST:
        pacer.note_chunk(tokens, 10 * STEP_S)
    assert pacer.chunk(decoding=True, left=2 * Pacer.SMALLEST) == Pacer.SMALLEST
    assert pacer.chunk(decoding=True, left=Pacer.SMALLEST + 1) == Pacer.SMALLEST + 1
    assert pacer.chunk(decoding=True, left=2) == 2
    small = Pacer(prefill_pause_s=0.05, largest=16)
    assert small.chunk(decoding=False, left=17) == 16


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


def undisturbed_pieces(pacer: Pacer, prompt: int, base_s: float, slope_s: float) -> list[float]:
    """How long the pieces of a prompt take with nobody decoding, where a token costs `base_s` and
    `slope_s` more for each before it."""
    pieces: list[float] = []
    done = 0
    while done < prompt:
        tokens = min(pacer.chunk(decoding=False, start=done), prompt - done)
        middle = done + tokens / 2
        pieces.append(tokens * (base_s + slope_s * middle))
        pacer.note_chunk(tokens, pieces[-1], middle)
        done += tokens
    return pieces


@pytest.mark.parametrize("slow", [1, 20, 500], ids=["GPU", "CPU", "loaded CPU"])
def test_with_nobody_decoding_a_piece_takes_about_a_second_at_most(slow: int) -> None:
    """As the demo model on a CPU, and many times faster."""
    pacer = Pacer(prefill_pause_s=0.05)
    pieces = undisturbed_pieces(pacer, 20_000, slow * 9e-6, slow * 13e-9)
    assert max(pieces) <= LONGEST_WORK_S
    assert len(pieces) <= 12 + 3 * sum(pieces)


def test_what_comes_after_a_known_prefix_is_cut_like_the_rest() -> None:
    """Though nothing was ever computed so far back."""
    pacer = Pacer(prefill_pause_s=0.05)
    undisturbed_pieces(pacer, 500, 180e-6, 260e-9)
    tokens = pacer.chunk(decoding=False, start=16_000)
    assert tokens * (180e-6 + 260e-9 * 16_000) <= LONGEST_WORK_S


def test_a_machine_that_gets_other_work_is_noticed_with_the_next_piece() -> None:
    pacer = Pacer(prefill_pause_s=0.05)
    undisturbed_pieces(pacer, 20_000, 180e-6, 0.0)
    pieces = undisturbed_pieces(pacer, 20_000, 900e-6, 0.0)
    assert max(pieces[1:]) <= LONGEST_WORK_S


def test_after_a_moment_of_other_work_pieces_grow_again() -> None:
    """One piece that took a hundred times as long makes the next ones tiny, and no more."""
    pacer = Pacer(prefill_pause_s=0.05)
    undisturbed_pieces(pacer, 20_000, 180e-6, 0.0)
    pacer.note_chunk(500, 100 * 500 * 180e-6, 10_000)
    assert pacer.chunk(decoding=False) < 64
    assert len(undisturbed_pieces(pacer, 20_000, 180e-6, 0.0)) < 20


def test_those_who_decode_do_not_make_a_piece_longer_than_without_them() -> None:
    pacer = Pacer(prefill_pause_s=5.0)
    pacer.note_newcomers(tokens=20_000, waiting=9, running=1)
    for _ in range(30):
        tokens = pacer.chunk(decoding=True)
        pacer.note_chunk(tokens, tokens * 2e-3)
    assert pacer.chunk(decoding=True) * 2e-3 <= LONGEST_WORK_S


def prompt_pieces(pacer: Pacer, prompt: int, fixed_s: float, token_s: float) -> list[int]:
    """How a prompt is cut on a machine where a piece costs so much whatever its length."""
    pieces: list[int] = []
    while sum(pieces) < prompt:
        tokens = min(pacer.chunk(decoding=True), prompt - sum(pieces))
        pacer.note_chunk(tokens, fixed_s + tokens * token_s)
        pieces.append(tokens)
    return pieces


def test_where_a_piece_costs_the_same_whatever_its_length_it_is_not_made_smaller() -> None:
    """As seen on an H200: 47 ms a piece of 190 tokens, 126 ms one of 2,000, a step of 7 ms. The
    streams wait for the prompt in any case; the fewer pieces, the shorter."""
    fixed_s, token_s = 0.04, 45e-6
    pacer = paced(*[0.007] * 5)
    for _ in range(3):
        prompt_pieces(pacer, 1500, fixed_s, token_s)
    pieces = prompt_pieces(pacer, 1500, fixed_s, token_s)
    whole_s = fixed_s + 1500 * token_s
    assert sum(fixed_s + tokens * token_s for tokens in pieces) < 2.2 * whole_s


def test_a_piece_whose_fixed_cost_is_about_a_step_still_gets_about_a_step() -> None:
    """Reading the weights is in each piece as in each step: a longer pause buys little."""
    pacer = paced(*[STEP_S] * 5)
    for _ in range(3):
        prompt_pieces(pacer, 1500, 0.8 * STEP_S, 20e-6)
    pieces = prompt_pieces(pacer, 1500, 0.8 * STEP_S, 20e-6)
    assert max(pieces) * 20e-6 < STEP_S


def test_pieces_that_look_far_back_are_no_fixed_cost() -> None:
    """As seen on a CPU: pieces of 55 tokens took 60 ms at the end of prompts of 1,500, and one of
    240 at a prompt's beginning 40 ms, so that length seemed to cost nothing."""
    pacer = paced(*[STEP_S] * 5)
    for _ in range(20):
        pacer.note_chunk(55, 0.06, 1500)
    pacer.note_chunk(240, 0.04, 120)
    assert pacer.chunk(decoding=True) <= 240
    pieces = prompt_pieces(pacer, 1500, 0.5 * STEP_S, 700e-6)
    assert sorted(pieces)[-3] * 700e-6 < 2 * STEP_S


def test_the_last_tokens_of_a_long_prompt_are_no_fixed_cost() -> None:
    """They look far back: a few of them took 17 ms beside steps of 4."""
    pacer = paced(*[STEP_S] * 5)
    for _ in range(3):
        pacer.note_chunk(20, 4 * STEP_S, 2000)
    pieces = prompt_pieces(pacer, 1500, 0.0, 700e-6)
    assert max(pieces) * 700e-6 < 2 * STEP_S


def test_small_pieces_that_were_slow_once_are_tried_again() -> None:
    """Beside other work a few tokens took 40 ms; with the work gone they take what they take."""
    pacer = paced(*[STEP_S] * 5)
    for _ in range(5):
        pacer.note_chunk(Pacer.SMALLEST, 4 * STEP_S)
    prompt_pieces(pacer, 20_000, 0.0, 700e-6)
    assert max(prompt_pieces(pacer, 1500, 0.0, 700e-6)) * 700e-6 < 1.5 * STEP_S


def test_what_slows_the_steps_beside_it_as_much_is_no_fixed_cost() -> None:
    """Other work came to the machine with the prompt: eight streams stood still for 70 ms."""
    pacer = paced(*[STEP_S] * 5)
    for _ in range(5):
        pacer.note_step(4 * STEP_S, disturbed=True)
        pacer.note_chunk(Pacer.SMALLEST, 4 * STEP_S)
    pieces = prompt_pieces(pacer, 1500, 0.0, 700e-6)
    assert max(pieces) * 700e-6 < 1.5 * STEP_S


def test_a_few_slow_small_pieces_in_a_row_are_no_fixed_cost() -> None:
    """Other work took the cores for a moment; the steps between them were spared."""
    pacer = paced(*[STEP_S] * 5)
    for seconds in [STEP_S] * 5 + [4 * STEP_S] * 4:
        pacer.note_step(STEP_S, disturbed=True)
        pacer.note_chunk(Pacer.SMALLEST, seconds)
    pieces = prompt_pieces(pacer, 1500, 0.0, 700e-6)
    assert max(pieces) * 700e-6 < 1.5 * STEP_S


def test_one_slow_piece_is_no_fixed_cost() -> None:
    pacer = paced(*[STEP_S] * 5)
    prompt_pieces(pacer, 3000, 0.0, 20e-6)
    pacer.note_chunk(100, 1.0)
    prompt_pieces(pacer, 3000, 0.0, 20e-6)
    assert pacer.chunk(decoding=True) * 20e-6 <= STEP_S


def test_a_prompt_that_a_cache_spares_all_work_is_no_division_by_nothing() -> None:
    """It may take its time all the same: its cache is copied."""
    pacer = Pacer(prefill_pause_s=0.05)
    pacer.note_chunk(0, 0.5)
    assert pacer.chunk(decoding=True) > 0

"""The states of a sequence: it moves as the table says, whatever becomes of its request."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import pytest

from shared.messages import Resume
from tests.worker.engine.conftest import MakeDriver
from tests.worker.engine.driving import job
from worker.engine.schedule.batch import DecodeBatch
from worker.engine.schedule.request import Request
from worker.engine.schedule.sequences import LEGAL_MOVES, Sequence, State

ALL_THE_WAY = [State.WAITING, State.PREFILLING, State.DECODING, State.FINISHED]

Moves = dict[str, list[State]]


@pytest.fixture
def moves(monkeypatch: pytest.MonkeyPatch) -> Moves:
    """The states that each sequence moves to from PREPARING on, by job and choice."""
    seen: Moves = defaultdict(list)
    move = Sequence.move

    def noting(sequence: Sequence, state: State) -> None:
        move(sequence, state)
        seen[f"{sequence.request.job.id}/{sequence.index}"].append(state)

    monkeypatch.setattr(Sequence, "move", noting)
    return seen


def test_every_choice_goes_all_the_way(drive: MakeDriver, moves: Moves) -> None:
    drive().run(job("a", choices=2), job("b"))
    assert moves["a/0"] == moves["a/1"] == moves["b/0"] == ALL_THE_WAY


def test_a_resumed_choice_that_is_complete_is_finished_at_once(
    drive: MakeDriver, moves: Moves
) -> None:
    driver = drive()
    tokens = driver.solo(job("a", max_tokens=4)).tokens
    resume = [Resume(tokens=tokens, finish_reason="length"), Resume(tokens=tokens[:2])]
    driver.solo(job("b", max_tokens=4, choices=2, resume=resume))
    assert moves["b/0"] == [State.FINISHED]
    assert moves["b/1"] == ALL_THE_WAY


def test_after_a_failed_step_a_sequence_is_prefilled_again(
    drive: MakeDriver, moves: Moves, monkeypatch: pytest.MonkeyPatch
) -> None:
    driver = drive()
    driver.submit(job("a", max_tokens=20, ignore_eos=True))
    driver.until(lambda: driver.results["a"].tokens)
    step, failures = DecodeBatch.step, [True]

    def fail_once(batch: DecodeBatch, deliver: Any) -> None:
        if failures:
            failures.clear()
            raise RuntimeError("a step fails")
        step(batch, deliver)

    monkeypatch.setattr(DecodeBatch, "step", fail_once)
    driver.until(lambda: driver.results["a"].over)
    assert moves["a/0"] == [*ALL_THE_WAY[:3], *ALL_THE_WAY[1:]]
    assert len(driver.results["a"].tokens) == 20


@pytest.mark.parametrize("bad", [b"no picture", None], ids=["refused", "cancelled"])
def test_what_is_given_up_is_finished(bad: bytes | None, drive: MakeDriver, moves: Moves) -> None:
    driver = drive()
    driver.submit(job("a", "What?", [bad] if bad else [], max_tokens=50, ignore_eos=True))
    if bad is None:
        driver.until(lambda: driver.results["a"].tokens)
        assert driver.engine.cancel("a")
    else:
        driver.until(lambda: driver.results["a"].over)
    assert moves["a/0"][-1] is State.FINISHED
    assert not driver.engine.has_work()


@pytest.mark.parametrize("state", State)
def test_any_other_move_is_an_error_of_ours(state: State) -> None:
    for target in State:
        sequence = Sequence(Request(job("x")[0]), 0)
        sequence.state = state
        if target in LEGAL_MOVES[state]:
            sequence.move(target)
            assert sequence.state is target
        else:
            with pytest.raises(AssertionError, match=f"{state.name} to {target.name}"):
                sequence.move(target)

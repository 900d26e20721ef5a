"""Time in which a process was stopped counts for nothing."""

from __future__ import annotations

import time

import pytest

from worker.awake_clock import LONGEST_TURN_S, AwakeAge, AwakeClock


class Machine:
    """Its clock goes on while a process on it is stopped."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    machine = Machine()
    monkeypatch.setattr(time, "monotonic", machine)
    return machine


def test_the_clock_counts_turns_and_not_a_stop(machine: Machine) -> None:
    clock = AwakeClock()
    before = clock.look()
    for passed_s in (0.1, 40.0, 0.1):
        machine.now += passed_s
        clock.look()
    assert clock.look() - before == pytest.approx(0.2 + LONGEST_TURN_S)


def test_an_age_grows_with_the_turns(machine: Machine) -> None:
    age = AwakeAge()
    happened_at = machine.now
    for turn in range(50):
        assert age.of(happened_at) == pytest.approx(turn * 0.1)
        machine.now += 0.1
    machine.now += 0.1
    assert age.of(machine.now - 0.05) == pytest.approx(0.05)


@pytest.mark.parametrize("seen", [False, True])
def test_a_stop_just_before_the_age_is_told_is_not_in_it(machine: Machine, seen: bool) -> None:
    age = AwakeAge()
    happened_at = machine.now
    if seen:
        age.of(happened_at)
    machine.now += 40.0
    assert age.of(happened_at) <= LONGEST_TURN_S

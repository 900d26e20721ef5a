"""Steps reach the link in order, and one wake is enough for all that it has not taken yet."""

from __future__ import annotations

import os
import select
import threading

from shared.messages import Accepted
from worker.link.engine_outputs import EngineOutputs
from worker.loop import Output

STEPS = 20_000


def output(number: int) -> list[Output]:
    return [Accepted(job=str(number), prompt_tokens=number)]


def test_one_wake_is_for_all_that_is_there() -> None:
    outputs = EngineOutputs()
    assert list(outputs.take()) == []
    for turn in range(2):
        for number in range(3):
            outputs.publish(output(number))
        assert os.read(outputs.wake_read, 3) == b"\0", turn
        assert list(outputs.take()) == [*output(0), *output(1), *output(2)]


def test_no_wake_is_lost_while_both_sides_are_at_it() -> None:
    outputs = EngineOutputs()

    def publish() -> None:
        for number in range(STEPS):
            outputs.publish(output(number))

    engine = threading.Thread(target=publish)
    engine.start()
    taken: list[Output] = []
    while len(taken) < STEPS:
        woken, _, _ = select.select([outputs.wake_read], [], [], 30)
        assert woken, f"asleep after {len(taken)} of {STEPS}"
        taken += outputs.take()
    engine.join()
    assert taken == [event for number in range(STEPS) for event in output(number)]

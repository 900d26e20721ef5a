"""The same answers with drafts and without, in turns, by one engine."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import count

import msgspec

from scripts.benchmarks.in_process.clocks import Clocks
from scripts.benchmarks.in_process.engines import Ours, Request, ask, user
from scripts.benchmarks.load.target import question
from scripts.benchmarks.report import Row, alternated, median
from shared.messages import Delta, Done, Sampling
from worker.engine.options import EngineOptions

TOKENS = 64
FEW = range(70, 78)
"""Tokens that alone are said: a model left to itself soon says them in the same order."""

SIDES = ("off", "auto")
_numbers = count()


@dataclass(frozen=True)
class Case:
    name: str
    rows: int
    make: Callable[[int], list[Request]]
    wanted: float
    expected: bool = False


def _asked(rows: int, sampling: Callable[[], Sampling]) -> list[Request]:
    """Prompts that are the same in every round: reading them is not what is measured."""
    made = []
    for number in range(rows):
        request = ask(f"d{next(_numbers)}", [user(question(number))], tokens=TOKENS)
        job = msgspec.structs.replace(request.job, sampling=sampling())
        made.append(Request(job, request.images))
    return made


def repeating(rows: int) -> list[Request]:
    bias = dict.fromkeys(FEW, 30.0)
    return _asked(rows, lambda: Sampling(seed=0, temperature=0.0, logit_bias=bias))


def not_repeating(rows: int) -> list[Request]:
    return _asked(rows, lambda: Sampling(seed=random.randrange(1 << 30), temperature=1.0))


CASES = (
    Case("text that repeats, 1 row", 1, repeating, 1.8),
    Case("text that repeats, 8 rows", 8, repeating, 1.3),
    Case("what was expected, 1 row", 1, repeating, 2.0, expected=True),
    Case("text that does not repeat, 1 row", 1, not_repeating, 0.97),
    Case("text that does not repeat, 8 rows", 8, not_repeating, 0.97),
    Case("text that does not repeat, 32 rows", 32, not_repeating, 0.97),
)


class Drafting:
    """One engine, whose wider passes have been timed."""

    def __init__(self, model_path: str) -> None:
        self._ours = Ours(model_path, speculate="auto")
        self._options = EngineOptions(model_path)
        self._taken = (0, 0)

    def measure(self, case: Case, model: str, rounds: int) -> Row:
        pairs, taken = [], []
        for number in range(rounds + 1):  # the first warms up
            asked = case.make(case.rows)
            if case.expected:
                asked = [self._expecting(request) for request in asked]
            spent = {side: self._run(side, asked) for side in alternated(SIDES, number)}
            if number:
                pairs.append((spent["off"], spent["auto"]))
                taken.append(self._taken)
        return {
            "model": model,
            "case": case.name,
            "off_tokens_per_s": median(case.rows * TOKENS / off.wall_s for off, _ in pairs),
            "auto_tokens_per_s": median(case.rows * TOKENS / on.wall_s for _, on in pairs),
            "ratio": median(off.wall_s / on.wall_s for off, on in pairs),
            "cpu_ratio": median(off.cpu_s / on.cpu_s for off, on in pairs),
            "drafted": median(drafted for drafted, _ in taken),
            "accepted": median(accepted for _, accepted in taken),
            "wanted": case.wanted,
        }

    def _run(self, side: str, asked: list[Request]) -> Clocks:
        engine = self._ours.engine
        engine.begin_anew(replace(self._options, speculate=side))
        for request in asked:  # their prompts are remembered
            first = msgspec.structs.replace(request.job, id=f"p{request.job.id}", max_tokens=1)
            self._ours.run([Request(first, [])])
        spent = self._ours.run(asked)
        if side == "auto":
            self._taken = (engine.speculation.drafted, engine.speculation.accepted)
        return spent

    def _expecting(self, request: Request) -> Request:
        """The same, with the answer that it will get."""
        said, done = "", False
        self._ours.engine.submit(request.job, request.images)
        while not done:
            for event in self._ours.turn():
                said += event.text if isinstance(event, Delta) else ""
                done = done or isinstance(event, Done)
        return Request(msgspec.structs.replace(request.job, prediction=said), request.images)

"""What one user feels of the engine: pauses while others come, and the time to a first token."""

from __future__ import annotations

import multiprocessing
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from scripts.benchmarks.engine_sides import Clocks, Ours, ask, picture, requests, user
from scripts.benchmarks.report import Row, median
from shared.messages import Accepted, ChatMessage, Delta, Done, Failed, TextPart

STREAMS = 8
UNDISTURBED = 150
"""Gaps between tokens that are taken before the newcomer comes."""

FIRST_TURN_WORDS = 300
ANSWER_TOKENS = 8
FOLLOWING = 10
"""Requests that the first one after the start is compared with."""


@contextmanager
def random_checkpoint() -> Iterator[Path]:
    """A Qwen2-VL with 53 million random weights, so that a prompt's length counts."""
    from tests.worker.engine import checkpoints

    with tempfile.TemporaryDirectory() as folder:
        yield checkpoints.build(
            "qwen2_vl", Path(folder) / "random-53m", width=768, layers=10, context=8192
        )


# --- a long prompt joins -------------------------------------------------------------------------


class Gaps:
    """Times between two tokens of one stream, before, while and after somebody joins."""

    def __init__(self) -> None:
        self.phase = "before"
        self.taken: dict[str, list[Clocks]] = {"before": [], "during": [], "after": []}
        self._last: Clocks | None = None

    def token(self) -> None:
        now = Clocks.now()
        if self._last is not None:
            self.taken[self.phase].append(now - self._last)
        self._last = now

    def p99(self, phases: tuple[str, ...]) -> Clocks:
        gaps = [gap for phase in phases for gap in self.taken[phase]]
        return Clocks(
            float(np.percentile([gap.wall_s for gap in gaps], 99)),
            float(np.percentile([gap.cpu_s for gap in gaps], 99)),
        )


def stalls(ours: Ours, prompt_tokens: int, rounds: int) -> Row:
    """Time between tokens of eight running streams, before and while a long prompt joins.

    "While" ends with the newcomer's last token, so that its joining and leaving are in it.
    """
    tokens, runs = 0, []
    for _ in range(rounds):
        tokens, gaps = _one_joins(ours, prompt_tokens)
        runs.append((gaps.p99(("before",)), gaps.p99(("during", "after")), gaps))
    pairs = [
        (during.wall_s / before.wall_s, during.cpu_s / before.cpu_s) for before, during, _ in runs
    ]
    return {
        "case": f"{tokens} prompt tokens with an image join {STREAMS} streams",
        "undisturbed_p99_ms": median(before.wall_s for before, _, _ in runs) * 1e3,
        "disturbed_p99_ms": median(during.wall_s for _, during, _ in runs) * 1e3,
        "undisturbed_p99_cpu_ms": median(before.cpu_s for before, _, _ in runs) * 1e3,
        "disturbed_p99_cpu_ms": median(during.cpu_s for _, during, _ in runs) * 1e3,
        "steps_while_joining": len(runs[-1][2].taken["during"]),
        "ratio": median(wall for wall, _ in pairs),
        "cpu_ratio": median(cpu for _, cpu in pairs),
        "wanted_at_most": 3.0,
    }


def _one_joins(ours: Ours, prompt_tokens: int) -> tuple[int, Gaps]:
    gaps, accepted_tokens, left = Gaps(), 0, STREAMS
    for request in requests(STREAMS, 400, False):
        ours.engine.submit(request.job, request.images)
    joins = user("word " * (prompt_tokens // 2), 0)
    newcomer = ask("newcomer", [joins], [picture()], tokens=ANSWER_TOKENS)
    while left or gaps.phase == "during":
        events = ours.turn()
        if any(isinstance(event, Delta) and event.job == "0" for event in events):
            gaps.token()
        for event in events:
            assert not isinstance(event, Failed), event
            left -= isinstance(event, Done) and event.job != "newcomer"
            if event.job == "newcomer":
                accepted_tokens = _tokens_of(event) or accepted_tokens
                gaps.phase = "after" if isinstance(event, Done) else gaps.phase
        if gaps.phase == "before" and len(gaps.taken["before"]) >= UNDISTURBED:
            ours.engine.submit(newcomer.job, newcomer.images)
            gaps.phase = "during"
    return accepted_tokens, gaps


def _tokens_of(event: Any) -> int:
    return event.prompt_tokens if isinstance(event, Accepted) else 0


# --- first tokens --------------------------------------------------------------------------------


def second_turns(ours: Ours, rounds: int) -> Row:
    """Time to the first token of a conversation about a picture: its second turn, its first."""
    pairs = []
    for number in range(rounds + 1):  # the first warms up
        images = [picture()]
        first = user(f"{number} " + "What is in this image? " * (FIRST_TURN_WORDS // 5), 0)
        one, said = ours.first_token(ask("1", [first], images, tokens=ANSWER_TOKENS))
        answer = ChatMessage(role="assistant", content=[TextPart(text=said)])
        turns = [first, answer, user("And how many are there?")]
        two, _ = ours.first_token(ask("2", turns, images, tokens=ANSWER_TOKENS))
        if number:
            pairs.append((one, two))
    return {
        "case": "second turn about a picture / first turn",
        "one_ms": median(one.wall_s for one, _ in pairs) * 1e3,
        "other_ms": median(two.wall_s for _, two in pairs) * 1e3,
        "one_cpu_ms": median(one.cpu_s for one, _ in pairs) * 1e3,
        "other_cpu_ms": median(two.cpu_s for _, two in pairs) * 1e3,
        "ratio": median(two.wall_s / one.wall_s for one, two in pairs),
        "cpu_ratio": median(two.cpu_s / one.cpu_s for one, two in pairs),
        "wanted_at_most": 0.3,
    }


def first_requests(model_path: str, rounds: int) -> Row:
    """Time to the first token of the first request of a fresh process, and of the next ten."""
    spawn = multiprocessing.get_context("spawn")
    with spawn.Pool(1, maxtasksperchild=1) as pool:
        runs = pool.map(_first_tokens, [model_path] * rounds, chunksize=1)
    wall = [([clocks.wall_s for clocks in run]) for run in runs]
    cpu = [([clocks.cpu_s for clocks in run]) for run in runs]
    return {
        "case": "first request after ready / median of the next ten",
        "one_ms": median(median(run[1:]) for run in wall) * 1e3,
        "other_ms": median(run[0] for run in wall) * 1e3,
        "one_cpu_ms": median(median(run[1:]) for run in cpu) * 1e3,
        "other_cpu_ms": median(run[0] for run in cpu) * 1e3,
        "ratio": median(run[0] / median(run[1:]) for run in wall),
        "cpu_ratio": median(run[0] / median(run[1:]) for run in cpu),
        "wanted_at_most": 1.5,
    }


def _first_tokens(model_path: str) -> list[Clocks]:
    ours = Ours(model_path)
    asked = [request for _ in range(FOLLOWING + 1) for request in requests(1, 4, True)]
    return [ours.first_token(request)[0] for request in asked]

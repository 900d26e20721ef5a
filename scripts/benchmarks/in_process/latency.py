"""What one user feels of the engine: pauses while others come, and the time to a first token."""

from __future__ import annotations

import multiprocessing
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from scripts.benchmarks.in_process.clocks import Clocks
from scripts.benchmarks.in_process.engines import Ours, Request, ask, picture, requests, user
from scripts.benchmarks.report import Row, median
from shared.messages import Accepted, ChatMessage, Delta, Done, Failed, TextPart

STREAMS = 8
UNDISTURBED = 50
"""Tokens of a stream before the newcomer comes."""
LONGEST_STREAM = 10_000

FIRST_TURN_WORDS = 300
ANSWER_TOKENS = 8
FOLLOWING = 10
"""Requests that the first one after the start is compared with."""


@contextmanager
def random_checkpoint() -> Iterator[Path]:
    """A Qwen2-VL with 53 million random weights, so that a prompt's length counts."""
    from scripts.checkpoints.building import build

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "random-53m"
        yield build("qwen2_vl", path, width=768, layers=10, context=8192)


# --- a long prompt joins -------------------------------------------------------------------------


@dataclass
class Gaps:
    """Times between two tokens of one stream.

    Attributes:
        joined: the gap in which somebody came; None: nobody did.
        left: the gap in which that one was done.
    """

    taken: list[Clocks] = field(default_factory=list)
    joined: int | None = None
    left: int | None = None


def stalls(ours: Ours, prompt_tokens: int, rounds: int) -> Row:
    """Time between tokens of eight running streams while a long prompt joins, and without it.

    A step takes longer the longer the streams are: both are taken at the same places of them, from
    the newcomer's coming to its last token, so that its joining and leaving are in it.
    """
    tokens, pairs = 0, []
    for _ in range(rounds):
        tokens, disturbed = _one_joins(ours, prompt_tokens)
        alone = _run_streams(ours, None, disturbed)[1]
        between = slice(disturbed.joined, disturbed.left)
        pairs.append((_p99(alone.taken[between]), _p99(disturbed.taken[between])))
    return {
        "case": f"{tokens} prompt tokens with an image join {STREAMS} streams",
        "undisturbed_p99_ms": median(before.wall_s for before, _ in pairs) * 1e3,
        "disturbed_p99_ms": median(during.wall_s for _, during in pairs) * 1e3,
        "undisturbed_p99_cpu_ms": median(before.cpu_s for before, _ in pairs) * 1e3,
        "disturbed_p99_cpu_ms": median(during.cpu_s for _, during in pairs) * 1e3,
        "ratio": median(during.wall_s / before.wall_s for before, during in pairs),
        "cpu_ratio": median(during.cpu_s / before.cpu_s for before, during in pairs),
        "wanted_at_most": 2.0,
    }


def _p99(gaps: Sequence[Clocks]) -> Clocks:
    return Clocks(
        float(np.percentile([gap.wall_s for gap in gaps], 99)),
        float(np.percentile([gap.cpu_s for gap in gaps], 99)),
    )


def _one_joins(ours: Ours, prompt_tokens: int) -> tuple[int, Gaps]:
    joins = user("word " * (prompt_tokens // 2), 0)
    return _run_streams(ours, ask("newcomer", [joins], [picture()], tokens=ANSWER_TOKENS))


def _run_streams(
    ours: Ours, newcomer: Request | None, like: Gaps | None = None
) -> tuple[int, Gaps]:
    """Run the streams until the newcomer is done, or for as many tokens as `like`.

    Returns:
        The tokens of the newcomer's prompt, and the gaps of the first stream.
    """
    gaps, last, prompt_tokens = Gaps(), None, 0
    streams = requests(STREAMS, LONGEST_STREAM, False)
    for request in streams:
        ours.engine.submit(request.job, request.images)
    while len(gaps.taken) < len(like.taken) if like is not None else gaps.left is None:
        for event in ours.turn():
            assert not isinstance(event, Failed), event
            if isinstance(event, Delta) and event.job == "0":
                now = Clocks.now()
                gaps.taken += [now - last] if last is not None else []
                last = now
            elif event.job == "newcomer":
                prompt_tokens = getattr(event, "prompt_tokens", prompt_tokens)
                gaps.left = len(gaps.taken) if isinstance(event, Done) else None
        if newcomer is not None and gaps.joined is None and len(gaps.taken) >= UNDISTURBED:
            ours.engine.submit(newcomer.job, newcomer.images)
            gaps.joined = len(gaps.taken)
    for request in streams:
        ours.engine.cancel(request.job.id)
    return prompt_tokens, gaps


def longest_step(ours: Ours, prompt_tokens: int) -> Row:
    """The longest that the engine does not come round while it reads a long prompt, alone."""
    words = ask("long", [user("word " * (prompt_tokens // 2))], tokens=1)
    ours.engine.submit(words.job, words.images)
    tokens, turns, done = 0, [], False
    while not done:
        started = Clocks.now()
        events = ours.turn()
        turns.append(Clocks.now() - started)
        assert not any(isinstance(event, Failed) for event in events), events
        tokens = next((e.prompt_tokens for e in events if isinstance(e, Accepted)), tokens)
        done = any(isinstance(event, Done) for event in events)
    return {
        "case": f"{tokens} prompt tokens with nobody decoding",
        "longest_step_s": max(turn.wall_s for turn in turns),
        "longest_step_cpu_s": max(turn.cpu_s for turn in turns),
        "all_s": sum(turn.wall_s for turn in turns),
        "steps": len(turns),
        "wanted_at_most": 1.5,
    }


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
    return _pairs_row("second turn about a picture / first turn", pairs, wanted_at_most=0.3)


def first_requests(model_path: str, rounds: int) -> Row:
    """Time to the first token of the first request of a fresh process, and of the next ten."""
    spawn = multiprocessing.get_context("spawn")
    with spawn.Pool(1, maxtasksperchild=1) as pool:
        runs = pool.map(_first_tokens, [model_path] * rounds, chunksize=1)
    pairs = [(_middle(following), first) for first, *following in runs]
    case = "first request after ready / median of the next ten"
    return _pairs_row(case, pairs, wanted_at_most=1.5)


def _first_tokens(model_path: str) -> list[Clocks]:
    ours = Ours(model_path)
    asked = [request for _ in range(FOLLOWING + 1) for request in requests(1, 4, True)]
    return [ours.first_token(request)[0] for request in asked]


def _middle(clocks: Sequence[Clocks]) -> Clocks:
    return Clocks(median(one.wall_s for one in clocks), median(one.cpu_s for one in clocks))


def _pairs_row(case: str, pairs: Sequence[tuple[Clocks, Clocks]], wanted_at_most: float) -> Row:
    """Times and ratios of first tokens, the other to the one."""
    one, other = _middle([one for one, _ in pairs]), _middle([other for _, other in pairs])
    return {
        "case": case,
        "one_ms": one.wall_s * 1e3,
        "other_ms": other.wall_s * 1e3,
        "one_cpu_ms": one.cpu_s * 1e3,
        "other_cpu_ms": other.cpu_s * 1e3,
        "ratio": median(two.wall_s / one.wall_s for one, two in pairs),
        "cpu_ratio": median(two.cpu_s / one.cpu_s for one, two in pairs),
        "wanted_at_most": wanted_at_most,
    }

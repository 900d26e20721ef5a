"""Rows of some context, each leaving after a few tokens and replaced at once.

The contexts are conversations that both sides have read before and remember, so that what is
measured is who joins and leaves, and not how fast prompts are read: on a CPU nothing else was seen.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

from scripts.benchmarks.in_process.clocks import Clocks
from scripts.benchmarks.in_process.engines import Ours, Request, Theirs, ask, user
from scripts.benchmarks.report import Row, alternated
from shared.messages import Delta, Done, Failed

CHURN_ROWS, CHURN_TOKENS = 32, (16, 48)
CONVERSATIONS = 8
TURNS = 4
LONG = 4096
"""Tokens of an answer that outlasts being watched."""


@dataclass(frozen=True)
class Watched:
    """How many tokens of answers came, and how long that took."""

    tokens: int
    clocks: Clocks


def churn(ours: Ours, theirs: Theirs, context: int, seconds: float) -> Row:
    """Tokens of answers a second, on either side, and ours where nobody leaves.

    Args:
        context: tokens of each prompt, about.
        seconds: how long each of the three is watched; both sides in turns.
    """
    few, many = CHURN_TOKENS
    known = [_request(f"k{number}", number, "?", context, 1) for number in range(CONVERSATIONS)]
    newcomers = partial(_newcomers, context, CHURN_TOKENS)
    own = _own_steps(ours, known, newcomers("c"))
    other = theirs.steps(known, newcomers("o"), CHURN_ROWS)
    sides = (other, own)
    for side in sides:
        _fill(side)
    watched: dict[Generator[int], list[Watched]] = {side: [] for side in sides}
    for number in range(TURNS):
        for side in alternated(sides, number):
            watched[side].append(_watch(side, seconds / TURNS))
    for side in sides:
        side.close()
    staying = _own_steps(ours, [], _newcomers(context, (LONG, LONG), "s"))
    _fill(staying)
    steady = [_watch(staying, seconds / TURNS)]
    staying.close()
    rate, cpu_rate = _rates(watched[own])
    other_rate, other_cpu_rate = _rates(watched[other])
    steady_rate, steady_cpu_rate = _rates(steady)
    return {
        "case": f"{CHURN_ROWS} rows of {context} tokens, {few} to {many} tokens each",
        "engine_tokens_per_s": rate,
        "batch_generator_tokens_per_s": other_rate,
        "engine_steady_tokens_per_s": steady_rate,
        "ratio": rate / other_rate,
        "cpu_ratio": cpu_rate / other_cpu_rate,
        "of_steady": rate / steady_rate,
        "of_steady_cpu": cpu_rate / steady_cpu_rate,
    }


def _rates(watched: Sequence[Watched]) -> tuple[float, float]:
    """Tokens a second, on the wall and of the CPU."""
    tokens = sum(each.tokens for each in watched)
    wall_s = sum(each.clocks.wall_s for each in watched)
    return tokens / wall_s, tokens / sum(each.clocks.cpu_s for each in watched)


def _request(name: str, conversation: int, question: str, context: int, tokens: int) -> Request:
    words = f"Conversation {conversation}: " + "word " * context
    return ask(name, [user(f"{words} {question}")], tokens=tokens)


def _newcomers(context: int, tokens: tuple[int, int], name: str) -> Iterator[Request]:
    rng = random.Random(3)
    for number in itertools.count():
        conversation, question = number % CONVERSATIONS, str(number)
        few, many = tokens
        yield _request(f"{name}{number}", conversation, question, context, rng.randint(few, many))


def _fill(steps: Iterator[int]) -> None:
    """Until nearly all rows decode together; `BatchGenerator` lets in eight at once."""
    while next(steps) <= CHURN_ROWS - 8:
        pass


def _watch(steps: Iterator[int], seconds: float) -> Watched:
    tokens, started = 0, Clocks.now()
    while (Clocks.now() - started).wall_s < seconds:
        tokens += next(steps)
    return Watched(tokens, Clocks.now() - started)


def _own_steps(ours: Ours, known: list[Request], newcomers: Iterator[Request]) -> Generator[int]:
    """How many tokens each step brings, while whoever is done is replaced."""
    if known:
        ours.run(known)
    running: set[str] = set()
    try:
        while True:
            while len(running) < CHURN_ROWS:
                request = next(newcomers)
                running.add(request.job.id)
                ours.engine.submit(request.job, request.images)
            tokens = 0
            for event in ours.turn():
                assert not isinstance(event, Failed), event
                tokens += len(event.tokens) if isinstance(event, Delta) else 0
                if isinstance(event, Done):
                    running.discard(event.job)
            yield tokens
    finally:
        for job_id in running:
            ours.engine.cancel(job_id)

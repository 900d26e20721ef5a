"""Rows of some context, each leaving after a few tokens and replaced at once.

Contexts are of conversations that both sides have read before and remember, so that a newcomer has
a few new tokens: what is measured is who joins and leaves. Once more with contexts that nobody has
seen: there nearly all is reading them.

What reading costs cannot be saved. So beside the rate where nobody leaves stands the rate that is
possible: a token's price there, and its part of what the engine takes to read a newcomer alone.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, replace

from scripts.benchmarks.in_process.clocks import Clocks
from scripts.benchmarks.in_process.engines import Ours, Request, Theirs, ask, user
from scripts.benchmarks.report import Row, alternated, median
from shared.messages import Accepted, Delta, Done, Failed
from worker.engine.interface import EngineEvent

CHURN_ROWS, CHURN_TOKENS = 32, (16, 48)
CONVERSATIONS = 8
WORD = "word "
TURNS = 4
ALONE = 8
"""Newcomers that are read with nobody else."""
LONG = 4096
"""Tokens of an answer that outlasts being watched."""


@dataclass(frozen=True)
class Watched:
    """How many tokens of answers came, and how long that took."""

    tokens: int
    clocks: Clocks


@dataclass(frozen=True)
class Contexts:
    """What newcomers begin with.

    Attributes:
        words: of each prompt.
        remembered: they are of `CONVERSATIONS`, read before; else each is new.
    """

    words: int
    remembered: bool

    @classmethod
    def of(cls, ours: Ours, tokens: int, *, remembered: bool) -> Contexts:
        """Of so many tokens, about."""
        hundred = len(ours.engine.model.tokenizer.encode(100 * WORD))
        return cls(100 * tokens // hundred, remembered)

    @property
    def known(self) -> list[Request]:
        """What is to be read before."""
        count = CONVERSATIONS if self.remembered else 0
        return [self._request(f"k{number}", number, "?", 1) for number in range(count)]

    def newcomers(self, name: str, tokens: tuple[int, int]) -> Iterator[Request]:
        """
        Args:
            tokens: the fewest and the most of an answer.
        """
        rng = random.Random(3)
        for number in itertools.count():
            conversation = number % CONVERSATIONS if self.remembered else f"{name}{number}"
            yield self._request(f"{name}{number}", conversation, number, rng.randint(*tokens))

    def _request(self, name: str, conversation: object, question: object, tokens: int) -> Request:
        text = f"{conversation}. Conversation: {self.words * WORD} {question}"
        return ask(name, [user(text)], tokens=tokens)


def churn(ours: Ours, theirs: Theirs, contexts: Contexts, seconds: float) -> Row:
    """Tokens of answers a second, on either side, and ours where nobody leaves.

    Args:
        seconds: how long each of the three is watched; both sides in turns.
    """
    known, newcomers = contexts.known, contexts.newcomers
    steady = [_steady(ours, contexts, seconds / 2)]
    own = _own_steps(ours, known, newcomers("c", CHURN_TOKENS))
    other = theirs.steps(known, newcomers("o", CHURN_TOKENS), CHURN_ROWS)
    sides = (other, own)
    for side in sides if contexts.remembered else ():
        _fill(side)
    watched: dict[Generator[int], list[Watched]] = {side: [] for side in sides}
    for number in range(TURNS + 1):  # the first warms up
        for side in alternated(sides, number):
            some = _watch(side, seconds / TURNS)
            watched[side] += [some] if number else []
    for side in sides:
        side.close()
    steady.append(_steady(ours, contexts, seconds / 2))
    alone, tokens = _read_alone(ours, newcomers("a", (1, 1)))
    kind = "remembered" if contexts.remembered else "new"
    figures = _figures(_a_token(watched[own]), _a_token(watched[other]), _a_token(steady), alone)
    return {"case": f"{CHURN_ROWS} rows of {tokens} tokens, {kind}", **figures}


def _steady(ours: Ours, contexts: Contexts, seconds: float) -> Watched:
    """Rows that stay. Their contexts are known in any case: how they were read is over by then."""
    known = replace(contexts, remembered=True)
    steps = _own_steps(ours, known.known, known.newcomers("s", (LONG, LONG)))
    _fill(steps)
    watched = _watch(steps, seconds)
    steps.close()
    return watched


def _figures(own: Clocks, other: Clocks, steady: Clocks, alone: Clocks) -> Row:
    """
    Args:
        own: what a token took; `other`, `steady` too.
        alone: what a newcomer took with nobody else.
    """
    answer = sum(CHURN_TOKENS) / 2
    return {
        "engine_tokens_per_s": 1 / own.wall_s,
        "batch_generator_tokens_per_s": 1 / other.wall_s,
        "engine_steady_tokens_per_s": 1 / steady.wall_s,
        "ratio": other.wall_s / own.wall_s,
        "cpu_ratio": other.cpu_s / own.cpu_s,
        "of_steady": steady.wall_s / own.wall_s,
        "of_steady_cpu": steady.cpu_s / own.cpu_s,
        "newcomer_alone_cpu_ms": alone.cpu_s * 1e3,
        "of_possible_cpu": (steady.cpu_s + alone.cpu_s / answer) / own.cpu_s,
    }


def _a_token(watched: Sequence[Watched]) -> Clocks:
    """What a token took."""
    tokens = sum(each.tokens for each in watched)
    wall_s = sum(each.clocks.wall_s for each in watched)
    return Clocks(wall_s / tokens, sum(each.clocks.cpu_s for each in watched) / tokens)


def _read_alone(ours: Ours, newcomers: Iterator[Request]) -> tuple[Clocks, int]:
    """What a newcomer takes with nobody else, its first token included, and how long they are."""
    taken, lengths = [], []
    for request in itertools.islice(newcomers, ALONE):
        started = Clocks.now()
        ours.engine.submit(request.job, request.images)
        events: list[EngineEvent] = []
        while not any(isinstance(event, Done | Failed) for event in events):
            events += ours.turn()
        taken.append(Clocks.now() - started)
        lengths += [event.prompt_tokens for event in events if isinstance(event, Accepted)]
    cpu_s = median(clocks.cpu_s for clocks in taken)
    return Clocks(median(clocks.wall_s for clocks in taken), cpu_s), max(lengths)


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

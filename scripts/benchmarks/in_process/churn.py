"""Rows of some context, each leaving after a few tokens and replaced at once."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator

from scripts.benchmarks.in_process.engines import Ours, Request, Theirs, ask, user
from scripts.benchmarks.report import Row
from shared.messages import Done, Failed

CHURN_ROWS, CHURN_TOKENS = 32, (16, 48)


def churn(ours: Ours, theirs: Theirs, context: int, seconds: float) -> Row:
    """Tokens of answers a second, on either side.

    Args:
        context: tokens of each prompt, about.
        seconds: how long each side is watched.
    """
    _churned(ours, context, seconds / 4)  # warms up
    own = _churned(ours, context, seconds)
    other = theirs.churn(_newcomers(context), CHURN_ROWS, seconds)
    few, many = CHURN_TOKENS
    return {
        "case": f"{CHURN_ROWS} rows of {context} tokens, {few} to {many} tokens each",
        "engine_tokens_per_s": own,
        "batch_generator_tokens_per_s": other,
        "ratio": own / other if other else None,
    }


def _newcomers(context: int) -> Iterator[Request]:
    rng = random.Random(3)
    number = 0
    while True:
        number += 1
        words = f"{rng.random()} " + "word " * context
        yield ask(f"c{number}", [user(words)], tokens=rng.randint(*CHURN_TOKENS))


def _churned(ours: Ours, context: int, seconds: float) -> float:
    newcomers = _newcomers(context)
    running: dict[str, int] = {}

    def enter() -> None:
        request = next(newcomers)
        running[request.job.id] = request.job.max_tokens or 0
        ours.engine.submit(request.job, request.images)

    for _ in range(CHURN_ROWS):
        enter()
    tokens, started = 0, time.perf_counter()
    while time.perf_counter() - started < seconds:
        for event in ours.turn():
            assert not isinstance(event, Failed), event
            if isinstance(event, Done):
                tokens += running.pop(event.job)
                enter()
    spent = time.perf_counter() - started
    for job_id in running:
        ours.engine.cancel(job_id)
    return tokens / spent

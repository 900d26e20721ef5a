"""A model of a thousand million random weights: against mlx-vlm's `BatchGenerator`, in turns."""

from __future__ import annotations

import random
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from scripts.benchmarks.engine import compared, in_turns
from scripts.benchmarks.in_process.engines import Ours, Request, Theirs, ask, requests, user
from scripts.benchmarks.in_process.latency import second_turns
from scripts.benchmarks.report import Row
from scripts.checkpoints.building import build
from scripts.gpu_checks.host_time import host_time
from scripts.gpu_checks.sizes import Sizes
from shared.messages import Done, Failed

ROWS = (1, 8, 32)
CONTEXT = 16_384
CHURN_ROWS = 32
CHURN_PROMPT = 1500
CHURN_TOKENS = (16, 48)


@contextmanager
def random_model(sizes: Sizes) -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder:
        yield build(
            "qwen2_vl",
            Path(folder) / "random",
            width=sizes.width,
            layers=sizes.layers,
            head=sizes.head,
            vocabulary=sizes.vocabulary,
            dtype=sizes.dtype,
            context=CONTEXT,
        )


def check(sizes: Sizes) -> dict[str, list[Row]]:
    with random_model(sizes) as path:
        ours = Ours(str(path))
        theirs = Theirs(str(path), ours.engine.writer.write)
        speeds = [
            _compared(f"decode, {rows} rows", ours, theirs, rows, sizes.tokens, 0, sizes)
            for rows in ROWS
        ]
        speeds.append(
            _compared(f"prefill, {sizes.prompt} tokens", ours, theirs, 1, 1, sizes.prompt, sizes)
        )
        churn = [_churn(ours, theirs, sizes)]
        turns = [second_turns(ours, sizes.rounds)]
        hosts = [host_time(ours, rows, sizes.tokens) for rows in ROWS]
    return {
        "Against BatchGenerator, in turns": speeds,
        "Churn": churn,
        "First token of turn 2": turns,
        "Host time a step": hosts,
    }


def _compared(
    case: str, ours: Ours, theirs: Theirs, rows: int, tokens: int, prompt: int, sizes: Sizes
) -> Row:
    """Tokens a second: of the prompt where one is given, else of the answers."""
    pairs = in_turns(ours, theirs, lambda: _asked(rows, tokens, prompt), sizes.rounds)
    return {"case": case, **compared(prompt or rows * tokens, pairs)}


def _asked(rows: int, tokens: int, prompt: int) -> list[Request]:
    if not prompt:
        return requests(rows, tokens, False)
    words = f"{random.random()} " + "word " * prompt
    return [ask(str(row), [user(words)], tokens=tokens) for row in range(rows)]


def _churn(ours: Ours, theirs: Theirs, sizes: Sizes) -> Row:
    """Rows of some context, each leaving after a few tokens and replaced at once."""
    context = min(CHURN_PROMPT, sizes.prompt)
    steady = [_asked(CHURN_ROWS, sizes.tokens, context) for _ in range(2)]
    ours.run(steady[0])
    own = _churned(ours, context, sizes.churn_s)
    other = theirs.churn(_newcomers(context), CHURN_ROWS, sizes.churn_s)
    return {
        "case": f"{CHURN_ROWS} rows of {context} tokens, {CHURN_TOKENS[0]} to "
        f"{CHURN_TOKENS[1]} tokens each",
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
    """Tokens a second of answers."""
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

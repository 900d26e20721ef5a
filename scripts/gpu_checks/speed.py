"""A model of a thousand million random weights: against mlx-vlm's `BatchGenerator`, in turns."""

from __future__ import annotations

import random
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from scripts.benchmarks.engine import compared, in_turns
from scripts.benchmarks.in_process.churn import Contexts, churn
from scripts.benchmarks.in_process.engines import Ours, Request, Theirs, ask, requests, user
from scripts.benchmarks.in_process.latency import second_turns
from scripts.benchmarks.report import Row
from scripts.checkpoints.building import build
from scripts.gpu_checks.host_time import host_time
from scripts.gpu_checks.sizes import Sizes

ROWS = (1, 8, 32)
CONTEXT = 16_384
CHURN_PROMPT = 1500


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
        contexts = Contexts.of(ours, min(CHURN_PROMPT, sizes.prompt), remembered=True)
        churned = [churn(ours, theirs, contexts, sizes.churn_s)]
        turns = [second_turns(ours, sizes.rounds)]
        hosts = [host_time(ours, rows, sizes.tokens) for rows in ROWS]
    return {
        "Against BatchGenerator, in turns": speeds,
        "Churn": churned,
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

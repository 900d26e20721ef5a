"""The engine against mlx-vlm's `BatchGenerator` driven directly, on the same prompts, in one run.

    scripts/bench engine --model-path <folder or hub id>

Ratios hold; absolute figures are of the machine and the hour. Both sides are warmed up, take
turns, and are judged by their best round.
"""

from __future__ import annotations

import argparse
import io
import random
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from worker.engine.openblas import load_openblas

load_openblas()

import mlx.core as mx  # noqa: E402
import numpy as np  # noqa: E402
from mlx_vlm.generate.ar import BatchGenerator  # noqa: E402
from mlx_vlm.utils import prepare_inputs  # noqa: E402
from PIL import Image  # noqa: E402

from scripts.benchmarks.report import Progress, Report  # noqa: E402
from shared.messages import (  # noqa: E402
    ChatMessage,
    Done,
    Failed,
    ImageInfo,
    ImagePart,
    Job,
    Sampling,
    TextPart,
)
from worker.engine.core import MlxEngine  # noqa: E402
from worker.engine.interface import EngineEvent  # noqa: E402
from worker.engine.loading import load_weights, resolve_folder  # noqa: E402
from worker.engine.options import EngineOptions  # noqa: E402
from worker.engine.preprocess import decode_image  # noqa: E402

DESCRIPTION = "The engine against mlx-vlm's BatchGenerator driven directly, in turns."

GREEDY = Sampling(seed=0, temperature=0.0)


@dataclass(frozen=True)
class Request:
    job: Job
    images: list[bytes]


def requests(count: int, tokens: int, pictures: bool) -> list[Request]:
    """Questions that differ, so that no cache helps; each with its own picture if wanted."""
    made = []
    for index in range(count):
        number = random.random()
        images = [_picture(number)] if pictures else []
        parts = [ImagePart(index=0)] * len(images)
        text = f"{number} Question {index}: what can you tell me about this?"
        info = ImageInfo(sha256="", media_type="image/png", width_px=300, height_px=200)
        job = Job(
            id=str(index),
            answer_id=str(index),
            request_id=str(index),
            model="",
            stream=True,
            sampling=GREEDY,
            messages=[ChatMessage(role="user", content=[*parts, TextPart(text=text)])],
            images=[info] * len(images),
            max_tokens=tokens,
            ignore_eos=True,
        )
        made.append(Request(job, images))
    return made


def _picture(seed: float) -> bytes:
    noise = np.random.default_rng(int(seed * 2**32)).integers(0, 255, (200, 300, 3), np.uint8)
    data = io.BytesIO()
    Image.fromarray(noise).save(data, "PNG")
    return data.getvalue()


class Ours:
    """The engine, as the worker's loop drives it, text and all."""

    def __init__(self, model_path: str) -> None:
        self._woken = threading.Event()
        self.engine = MlxEngine(EngineOptions(model_path), self._woken.set)
        self.engine.load(lambda fraction: None)

    def run(self, asked: Sequence[Request]) -> float:
        """Return the seconds that all answers took."""
        started = time.perf_counter()
        for request in asked:
            self.engine.submit(request.job, request.images)
        left = len(asked)
        while left:
            for event in self.turn():
                assert not isinstance(event, Failed), event
                left -= isinstance(event, Done)
        return time.perf_counter() - started

    def turn(self) -> list[EngineEvent]:
        """One step, after waiting for something to do."""
        if not self.engine.has_work():
            self._woken.wait(0.1)
            self._woken.clear()
        return self.engine.step()


class Theirs:
    """`BatchGenerator`, fed as mlx-vlm's server feeds it; token ids only, no text.

    Args:
        write: renders a job's prompt, so that both sides get the same.
    """

    def __init__(self, model_path: str, write: Callable[[Job], str]) -> None:
        self._network, self._processor = load_weights(resolve_folder(model_path, lambda _: None))
        self._write = write
        self._language = self._network.language_model
        criteria = getattr(self._processor, "tokenizer", self._processor).stopping_criteria
        criteria.eos_token_ids = []  # ignore_eos

    def run(self, asked: Sequence[Request]) -> float:
        started = time.perf_counter()
        generator = BatchGenerator(
            self._language,
            self._processor,
            completion_batch_size=max(32, len(asked)),
            prefill_batch_size=min(8, len(asked)),
            compute_logprobs=False,
            greedy_sampling=True,
        )
        for request in asked:
            ids, keywords = self._embedded(request)
            generator.insert([ids], max_tokens=request.job.max_tokens, prompt_kwargs=[keywords])
        while generator.has_work:
            generator.next()
        generator.close()
        return time.perf_counter() - started

    def _embedded(self, request: Request) -> tuple[list[int], dict[str, Any]]:
        inputs = prepare_inputs(
            self._processor,
            images=[decode_image(data) for data in request.images] or None,
            prompts=self._write(request.job),
            add_special_tokens=True,
        )
        ids, pixels = inputs.pop("input_ids"), inputs.pop("pixel_values", None)
        mask = inputs.pop("attention_mask", None)
        found = self._network.get_input_embeddings(ids, pixels, mask=mask, **inputs)
        given = {name: value for name, value in found.to_dict().items() if value is not None}
        return ids[0].tolist(), {**inputs, **given}


@dataclass(frozen=True)
class Case:
    name: str
    count: int
    tokens: int
    pictures: bool
    wanted: float


CASES = (
    Case("text, batch 1", 1, 64, False, 1.0),
    Case("text, batch 8", 8, 64, False, 1.0),
    Case("text, batch 32", 32, 64, False, 1.0),
    Case("one image each, 16 tokens, 8 at once", 8, 16, True, 1.2),
)


def measure(case: Case, ours: Ours, theirs: Theirs, rounds: int) -> dict[str, Any]:
    best = {"ours": float("inf"), "theirs": float("inf")}
    for _ in range(rounds + 1):  # the first warms up
        asked = requests(case.count, case.tokens, case.pictures)
        for name, side in (("theirs", theirs), ("ours", ours)):
            best[name] = min(best[name], side.run(asked))
    tokens = case.count * case.tokens
    return {
        "case": case.name,
        "engine_tokens_per_s": round(tokens / best["ours"], 1),
        "batch_generator_tokens_per_s": round(tokens / best["theirs"], 1),
        "ratio": round(best["theirs"] / best["ours"], 3),
        "wanted": case.wanted,
    }


def stalls(ours: Ours, prompt_tokens: int) -> dict[str, Any]:
    """Time between tokens of eight running streams, before and while a long prompt joins."""
    streams = requests(8, 400, False)
    for request in streams:
        ours.engine.submit(request.job, request.images)
    (newcomer,) = requests(1, 8, True)
    text = TextPart(text="word " * (prompt_tokens // 2))
    message = ChatMessage(role="user", content=[ImagePart(index=0), text])
    fields = {name: getattr(newcomer.job, name) for name in newcomer.job.__struct_fields__}
    fields |= {"id": "newcomer", "messages": [message]}
    long_job = Job(**fields)
    gaps: dict[str, list[float]] = {"before": [], "during": []}
    phase, joined, last, left = "before", False, 0.0, 9
    accepted_tokens = 0
    while left:
        events = ours.turn()
        now = time.perf_counter()
        left -= sum(isinstance(event, Done) for event in events)
        for event in events:
            if event.job == "newcomer":
                accepted_tokens = max(accepted_tokens, getattr(event, "prompt_tokens", 0))
                phase = "after" if hasattr(event, "sequence") else phase
        if any(hasattr(event, "sequence") and event.job == "0" for event in events):
            if last and phase in gaps:
                gaps[phase].append(now - last)
            last = now
        if not joined and len(gaps["before"]) >= 150:
            ours.engine.submit(long_job, newcomer.images)
            joined, phase = True, "during"
    p99 = {name: float(np.percentile(values, 99)) for name, values in gaps.items() if values}
    return {
        "case": f"{accepted_tokens} prompt tokens with an image join 8 streams",
        "undisturbed_p99_ms": round(p99["before"] * 1e3, 2),
        "disturbed_p99_ms": round(p99.get("during", 0.0) * 1e3, 2),
        "steps_while_joining": len(gaps["during"]),
        "ratio": round(p99.get("during", 0.0) / p99["before"], 2),
        "wanted_at_most": 3.0,
    }


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model-path", default=str(Path("worker/demo_model")))
    parser.add_argument("--rounds", type=int, default=3, help="after one that warms up")
    parser.add_argument("--long-prompt", type=int, default=2000, help="tokens, about")


def run(options: argparse.Namespace) -> Report:
    mx.random.seed(0)
    progress = Progress(len(CASES) + 1)
    ours = Ours(options.model_path)
    theirs = Theirs(options.model_path, ours.engine.render)
    rows = []
    for case in CASES:
        progress.step(case.name)
        rows.append(measure(case, ours, theirs, options.rounds))
    progress.step("a long prompt joins")
    joining = stalls(ours, options.long_prompt)
    progress.end()
    return Report("engine", {"Tokens per second": rows, "A long prompt joins": [joining]})

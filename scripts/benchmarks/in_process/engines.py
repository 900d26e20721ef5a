"""Our engine and `BatchGenerator`, driven directly in this process, and what they are asked."""

from __future__ import annotations

import io
import random
import threading
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from worker.engine.model import blas

blas.load()

import numpy as np  # noqa: E402
from mlx_vlm.apc import APCManager  # noqa: E402
from mlx_vlm.generate.ar import BatchGenerator  # noqa: E402
from mlx_vlm.utils import prepare_inputs  # noqa: E402
from PIL import Image  # noqa: E402

from scripts.benchmarks.in_process.clocks import Clocks  # noqa: E402
from scripts.benchmarks.load.target import question  # noqa: E402
from shared.messages import (  # noqa: E402
    ChatMessage,
    Delta,
    Done,
    Failed,
    ImageInfo,
    ImagePart,
    Job,
    Sampling,
    TextPart,
)
from worker.engine.interface import EngineEvent  # noqa: E402
from worker.engine.load import load_engine  # noqa: E402
from worker.engine.model.download import resolve_folder  # noqa: E402
from worker.engine.model.loading import load_weights  # noqa: E402
from worker.engine.options import EngineOptions  # noqa: E402
from worker.engine.prepare.preprocess import decode_image  # noqa: E402

GREEDY = Sampling(seed=0, temperature=0.0)
DEFAULT_THREADS = blas.thread_count()
"""What OpenBLAS takes by itself; our engine changes it for the whole process."""
REMEMBERED_BLOCKS = 8192
"""Of 16 tokens each, in `BatchGenerator`'s prefix cache."""


@dataclass(frozen=True)
class Request:
    job: Job
    images: list[bytes]


def ask(
    name: str, messages: Sequence[ChatMessage], images: Sequence[bytes] = (), *, tokens: int
) -> Request:
    """A greedy request for exactly so many tokens."""
    info = ImageInfo(sha256="", media_type="image/png", width_px=300, height_px=200)
    job = Job(
        id=name,
        answer_id=name,
        request_id=name,
        model="",
        stream=True,
        sampling=GREEDY,
        messages=list(messages),
        images=[info] * len(images),
        max_tokens=tokens,
        ignore_eos=True,
    )
    return Request(job, list(images))


def user(text: str, *images: int) -> ChatMessage:
    parts = [ImagePart(index=index) for index in images]
    return ChatMessage(role="user", content=[*parts, TextPart(text=text)])


def requests(count: int, tokens: int, pictures: bool) -> list[Request]:
    """Questions that differ, so that no cache helps; each with its own picture if wanted."""
    texts = [question(random.randrange(10**8, 10**9)) for _ in range(count)]
    return asked(texts, tokens, pictures)


def asked(texts: Sequence[str], tokens: int, pictures: bool) -> list[Request]:
    """One request for each text."""
    made = []
    for index, text in enumerate(texts):
        images = [picture()] if pictures else []
        made.append(ask(str(index), [user(text, *range(len(images)))], images, tokens=tokens))
    return made


def picture(width: int = 300, height: int = 200, seed: int | None = None) -> bytes:
    """A picture of noise as a PNG; without a seed, one that nobody has seen before."""
    noise = np.random.default_rng(seed).integers(0, 255, (height, width, 3), np.uint8)
    data = io.BytesIO()
    Image.fromarray(noise).save(data, "PNG")
    return data.getvalue()


class Ours:
    """The engine, as the worker's loop drives it, text and all."""

    def __init__(
        self,
        model_path: str,
        proof_cache: str = "",
        prefix_cache_bytes: int = EngineOptions.prefix_cache_bytes,
        speculate: str = "off",
    ) -> None:
        self._woken = threading.Event()
        options = EngineOptions(
            model_path,
            proof_cache=proof_cache,
            prefix_cache_bytes=prefix_cache_bytes,
            speculate=speculate,
        )
        self.engine = load_engine(options, lambda fraction: None, self._woken.set)

    def run(self, requests: Sequence[Request]) -> Clocks:
        """Return what all answers took."""
        started = Clocks.now()
        for request in requests:
            self.engine.submit(request.job, request.images)
        left = len(requests)
        while left:
            for event in self.turn():
                assert not isinstance(event, Failed), event
                left -= isinstance(event, Done)
        return Clocks.now() - started

    def turn(self) -> list[EngineEvent]:
        """One step, after waiting for something to do."""
        if not self.engine.has_work():
            self._woken.wait(0.1)
            self._woken.clear()
        return self.engine.step()

    def first_token(self, request: Request) -> tuple[Clocks, str]:
        """How long the request's first token took, and what its whole answer says."""
        started, first, said, done = Clocks.now(), None, "", False
        self.engine.submit(request.job, request.images)
        while not done:
            for event in self.turn():
                assert not isinstance(event, Failed), event
                if isinstance(event, Delta):
                    first = first or Clocks.now()
                    said += event.text
                done = isinstance(event, Done)
        assert first is not None
        return first - started, said


class Theirs:
    """`BatchGenerator`, fed as mlx-vlm's server feeds it; token ids only, no text.

    Args:
        write: renders a job's prompt, so that both sides get the same.
    """

    def __init__(self, model_path: str, write: Callable[[Job], str]) -> None:
        self._network, self._processor = load_weights(resolve_folder(model_path, lambda *_: None))
        self._write = write
        self._language = self._network.language_model
        criteria = getattr(self._processor, "tokenizer", self._processor).stopping_criteria
        criteria.eos_token_ids = []  # ignore_eos

    def run(self, requests: Sequence[Request]) -> Clocks:
        blas.use_threads(DEFAULT_THREADS)
        started = Clocks.now()
        generator = self._generator(len(requests))
        for request in requests:
            self._insert(generator, request)
        while generator.has_work:
            generator.next()
        generator.close()
        return Clocks.now() - started

    def steps(
        self, known: Sequence[Request], newcomers: Iterator[Request], rows: int
    ) -> Generator[int]:
        """How many tokens each step brings, while so many rows are kept busy.

        Args:
            known: what was read before, to be remembered by its prefix cache.
        """
        generator = self._generator(rows, APCManager(num_blocks=REMEMBERED_BLOCKS))
        for request in known:
            self._insert(generator, request)
        running = set[int]()
        try:
            while True:
                while len(running) < rows and not (known and generator.has_work):
                    running.add(self._insert(generator, next(newcomers)))
                    known = ()
                blas.use_threads(DEFAULT_THREADS)
                said = generator.next()[1]
                running -= {one.uid for one in said if one.finish_reason is not None}
                yield len(said)
        finally:
            generator.close()

    def _generator(self, rows: int, remembered: APCManager | None = None) -> BatchGenerator:
        return BatchGenerator(
            self._language,
            self._processor,
            completion_batch_size=max(32, rows),
            prefill_batch_size=min(8, rows),
            compute_logprobs=False,
            greedy_sampling=True,
            apc_manager=remembered,
        )

    def _insert(self, generator: BatchGenerator, request: Request) -> int:
        ids, keywords = self._embedded(request)
        (uid,) = generator.insert(
            [ids], max_tokens=request.job.max_tokens, prompt_kwargs=[keywords]
        )
        return int(uid)

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
        if not request.images:
            given["_apc_semantic_hash"] = 0  # as mlx-vlm's server says that tokens tell all
        return ids[0].tolist(), {**inputs, **given}

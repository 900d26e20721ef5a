"""Drives an engine as the worker's loop does, and says what came of each job."""

from __future__ import annotations

import hashlib
import io
import os
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from PIL import Image, ImageDraw

from shared.messages import (
    Accepted,
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
from worker.engine.interface import EngineEvent
from worker.engine.load import load_engine
from worker.engine.options import EngineOptions, MemoryShare
from worker.engine.prepare.preprocess import Preprocessor, Prompt

ALONE = MemoryShare(1 << 40, explicit=True)
"""Engines of earlier tests may be there still: they take nothing from those of this one."""
GREEDY = Sampling(seed=1, temperature=0.0)
TIMEOUT_S = 60.0


def sampled(seed: int = 1, **rules: Any) -> Sampling:
    return Sampling(seed=seed, **{"temperature": 1.0, **rules})


def picture(color: str, size: tuple[int, int] = (96, 80)) -> bytes:
    """A PNG with a square of one colour on white."""
    image = Image.new("RGB", size, "white")
    ImageDraw.Draw(image).rectangle((10, 10, size[0] // 2, size[1] // 2), fill=color)
    data = io.BytesIO()
    image.save(data, "PNG")
    return data.getvalue()


def user(text: str, *images: int) -> ChatMessage:
    parts = [ImagePart(index=index) for index in images]
    return ChatMessage(role="user", content=[*parts, TextPart(text=text)])


def assistant(text: str) -> ChatMessage:
    return ChatMessage(role="assistant", content=[TextPart(text=text)])


def job(
    name: str,
    text: str | Sequence[ChatMessage] = "Hello, how are you?",
    images: Sequence[bytes] = (),
    **fields: Any,
) -> tuple[Job, list[bytes]]:
    """A job and its attachments; a plain text is one user message after all images."""
    messages = [user(text, *range(len(images)))] if isinstance(text, str) else list(text)
    infos = [
        ImageInfo(
            sha256=hashlib.sha256(data).hexdigest(),
            media_type="image/png",
            width_px=1,
            height_px=1,
        )
        for data in images
    ]
    defaults: dict[str, Any] = {"sampling": GREEDY, "max_tokens": 10, "stream": True}
    given = {"messages": messages, **defaults, **fields}
    if "prompt" in fields or "prompt_ids" in fields:
        del given["messages"]
    made = Job(id=name, answer_id=f"a-{name}", request_id=name, model="m", images=infos, **given)
    return made, list(images)


@dataclass
class Result:
    """What came of one job."""

    events: list[EngineEvent] = field(default_factory=list)

    @property
    def deltas(self) -> list[Delta]:
        return [event for event in self.events if isinstance(event, Delta)]

    @property
    def tokens(self) -> list[int]:
        return self.tokens_of(0)

    def tokens_of(self, choice: int) -> list[int]:
        return [t for d in self.deltas if d.choice == choice for t in d.tokens]

    def text_of(self, choice: int) -> str:
        return "".join(delta.text for delta in self.deltas if delta.choice == choice)

    @property
    def text(self) -> str:
        return self.text_of(0)

    @property
    def finish_reason(self) -> str | None:
        return next((d.finish_reason for d in reversed(self.deltas) if d.finish_reason), None)

    @property
    def done(self) -> Done:
        return next(event for event in self.events if isinstance(event, Done))

    @property
    def failed(self) -> Failed | None:
        return next((event for event in self.events if isinstance(event, Failed)), None)

    @property
    def accepted(self) -> bool:
        return any(isinstance(event, Accepted) for event in self.events)

    @property
    def over(self) -> bool:
        return bool(self.events) and isinstance(self.events[-1], Done | Failed)


class Driver:
    def __init__(self, options: EngineOptions) -> None:
        self._woken = threading.Event()
        self._prepared = threading.Semaphore(0)
        memory = ALONE if options.memory == MemoryShare() else options.memory
        proofs = os.environ["WORKER_PROOF_CACHE"]
        self._options = replace(options, proof_cache=proofs, memory=memory)
        self.engine = load_engine(self._options, lambda fraction: None, self._wake)
        self.model = self.engine.model
        self.results: dict[str, Result] = {}

    def begin_anew(self) -> None:
        """Drop what is under way, and forget all that has been."""
        self.engine.begin_anew(self._options)
        self.results = {}

    def _wake(self) -> None:
        self._prepared.release()
        self._woken.set()

    def submit(self, *jobs: tuple[Job, list[bytes]]) -> None:
        for made, images in jobs:
            self.results[made.id] = Result()
            self.engine.submit(made, images)

    def submit_prepared(self, *jobs: tuple[Job, list[bytes]]) -> None:
        """Submit jobs while nothing else is being prepared, and wait until all of them are."""
        self._prepared = threading.Semaphore(0)
        self.submit(*jobs)
        for _ in jobs:
            assert self._prepared.acquire(timeout=TIMEOUT_S)

    def prompt(self, made: tuple[Job, list[bytes]]) -> Prompt:
        """A job's prompt, as the engine reads it."""
        return Preprocessor(self.model, self.engine.writer).prepare(*made)

    def render(self, made: tuple[Job, list[bytes]]) -> str:
        """The text that the model's template makes of a job's messages."""
        return self.engine.writer.write(made[0])

    def turn(self) -> list[EngineEvent]:
        """One step; waits for the pool if there is nothing else to do."""
        if not self.engine.has_work():
            self._woken.wait(1.0)
        self._woken.clear()
        events = self.engine.step()
        for event in events:
            self.results[event.job].events.append(event)
        return events

    def run(self, *jobs: tuple[Job, list[bytes]]) -> list[Result]:
        """Submit jobs, run them to their ends and return what came of them, in order."""
        self.submit(*jobs)
        mine = [self.results[made.id] for made, _ in jobs]
        self.until(lambda: all(result.over for result in mine))
        return mine

    def until(self, reached: Any) -> None:
        deadline = time.monotonic() + TIMEOUT_S
        while not reached():
            assert time.monotonic() < deadline, "the engine does not come to an end"
            self.turn()

    def solo(self, made: tuple[Job, list[bytes]]) -> Result:
        return self.run(made)[0]

"""Lets a few made-up requests through the whole engine before the first real one.

Kernels are compiled, tables are built and buffers are allocated the first time they are needed:
on the first request that would cost its user up to seconds.
"""

from __future__ import annotations

import io
import time
from collections.abc import Iterator, Sequence

from PIL import Image

from shared.messages import (
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
from worker.engine.interface import Engine, EngineEvent, ModelFacts

TOKENS = 6
NAP_S = 0.001
LONG = "What follows is of no meaning. " * 40
GREEDY = Sampling(seed=0, temperature=0.0)
SAMPLED = Sampling(seed=0, temperature=1.0, top_p=0.9, top_k=20, presence_penalty=0.1)


def warm_up(engine: Engine) -> None:
    """Run them alone and side by side; what fails here is left to fail for real requests."""
    for first, *others in _groups(engine.facts):
        engine.submit(*first)
        left = {first[0].id}
        while left:
            events = _step(engine)
            if others and any(isinstance(event, Delta | Failed) for event in events):
                for job, images in others:  # they join while the first one is running
                    engine.submit(job, images)
                    left.add(job.id)
                others = []
            left -= {event.job for event in events if isinstance(event, Done | Failed)}


def _step(engine: Engine) -> list[EngineEvent]:
    if not engine.has_work():
        time.sleep(NAP_S)  # the pool still prepares
    return engine.step()


Made = tuple[Job, Sequence[bytes]]


def _groups(facts: ModelFacts) -> Iterator[list[Made]]:
    yield [_job("w-text", "Hello.", GREEDY)]
    yield [_job("w-greedy", "Hello there.", GREEDY), _job("w-sampled", "And you?", SAMPLED)]
    if facts.vision:
        picture = _picture()
        yield [_job("w-image", "What is this?", GREEDY, picture)]
        yield [
            _job("w-image-too", "What is that?", SAMPLED, picture),
            _job("w-beside", "Hello.", GREEDY),
        ]
    # Long enough to be cut into pieces between the other's tokens.
    pictures = [_picture()] if facts.vision else []
    yield [
        _job("w-stream", "Go on.", GREEDY, tokens=4 * TOKENS),
        _job("w-long", LONG, GREEDY, *pictures),
    ]


def _job(name: str, text: str, sampling: Sampling, *images: bytes, tokens: int = TOKENS) -> Made:
    parts = [ImagePart(index=index) for index in range(len(images))]
    job = Job(
        id=name,
        answer_id=name,
        request_id=name,
        model="",
        stream=True,
        sampling=sampling,
        messages=[ChatMessage(role="user", content=[*parts, TextPart(text=text)])],
        images=[ImageInfo(sha256="", media_type="image/png", width_px=0, height_px=0)]
        * len(images),
        max_tokens=tokens,
        ignore_eos=True,
    )
    return job, images


def _picture() -> bytes:
    data = io.BytesIO()
    Image.new("RGB", (336, 224), "gray").save(data, "PNG")
    return data.getvalue()

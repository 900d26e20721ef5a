"""Lets a few made-up requests through the whole engine before the first real one.

Kernels are compiled, tables are built and buffers are allocated the first time they are needed:
on the first request that would cost its user up to seconds.
"""

from __future__ import annotations

import io
import time
from collections.abc import Iterator, Sequence

from PIL import Image

from shared.messages import ChatMessage, Done, Failed, ImageInfo, ImagePart, Job, Sampling, TextPart
from worker.engine.interface import Engine, ModelFacts

TOKENS = 6
NAP_S = 0.001
GREEDY = Sampling(seed=0, temperature=0.0)
SAMPLED = Sampling(seed=0, temperature=1.0, top_p=0.9, top_k=20, presence_penalty=0.1)


def warm_up(engine: Engine, facts: ModelFacts) -> None:
    """Run them alone and side by side; what fails here is left to fail for real requests."""
    for group in _groups(facts):
        for job, images in group:
            engine.submit(job, images)
        left = {job.id for job, _ in group}
        while left:
            if not engine.has_work():
                time.sleep(NAP_S)  # the pool still prepares
            ended = {event.job for event in engine.step() if isinstance(event, Done | Failed)}
            left -= ended


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


def _job(name: str, text: str, sampling: Sampling, *images: bytes) -> Made:
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
        max_tokens=TOKENS,
        ignore_eos=True,
    )
    return job, images


def _picture() -> bytes:
    data = io.BytesIO()
    Image.new("RGB", (336, 224), "gray").save(data, "PNG")
    return data.getvalue()

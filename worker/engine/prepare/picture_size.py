"""How large a picture is shown to the model, where the request has a word in it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image

from shared.messages import ImageInfo, Job
from worker.engine.faults import JobFault


def scaled(image: Image.Image, info: ImageInfo) -> Image.Image:
    """Return the picture with no side longer than the request wants it."""
    most = info.longest_side_px
    if most is None or max(image.size) <= most:
        return image
    factor = most / max(image.size)
    width, height = (max(1, round(side * factor)) for side in image.size)
    return image.resize((width, height), Image.Resampling.BICUBIC)


def image_keys(job: Job, images: Sequence[bytes]) -> tuple[str, ...]:
    """Return what tells apart what the model sees of each picture: its file, and how large."""
    return tuple(_key(job, info, data) for info, data in zip(job.images, images, strict=True))


def _key(job: Job, info: ImageInfo, data: bytes) -> str:
    digest = hashlib.sha256(data).hexdigest()
    sizes = (info.longest_side_px, job.min_pixels, job.max_pixels)
    return digest if sizes == (None, None, None) else f"{digest}:{sizes}"


def processor_options(processor: Any, job: Job) -> dict[str, int]:
    """Return what the processor is to be called with.

    Raises:
        JobFault: it has no such bounds, or the request goes beyond the model's own: the memory of
            a picture grows with them.
    """
    asked = {
        name: value
        for name, value in (("min_pixels", job.min_pixels), ("max_pixels", job.max_pixels))
        if value is not None
    }
    if not asked:
        return {}
    most = _own_most(processor)
    if most is None:
        raise _not_there(next(iter(asked)))
    for name, value in asked.items():
        if value > most:
            words = f"This model's own max_pixels is {most}; {name} can be at most that."
            raise JobFault("invalid_request", words, name)
    if asked.get("min_pixels", 0) > asked.get("max_pixels", most):
        words = "min_pixels is more than max_pixels."
        raise JobFault("invalid_request", words, "min_pixels")
    return asked


def check_obeyed(processor: Any, options: Mapping[str, int], inputs: Mapping[str, Any]) -> None:
    """Raises JobFault unless what came out keeps the bounds: many a processor ignores them."""
    if not options:
        return
    grids = inputs.get("image_grid_thw")
    patch = getattr(getattr(processor, "image_processor", None), "patch_size", None)
    if grids is None or not isinstance(patch, int):
        raise _not_there(next(iter(options)))
    pixels = np.asarray(grids).reshape(-1, 3).prod(axis=1) * patch * patch
    if pixels.min() < options.get("min_pixels", 0):
        raise _not_there("min_pixels")
    if "max_pixels" in options and pixels.max() > options["max_pixels"]:
        raise _not_there("max_pixels")


def _own_most(processor: Any) -> int | None:
    """The model's own bound on a picture's pixels, where its processor names one."""
    images = getattr(processor, "image_processor", None)
    size = getattr(images, "size", None)
    most = size.get("longest_edge") if isinstance(size, Mapping) else None
    most = getattr(images, "max_pixels", None) if most is None else most
    return most if isinstance(most, int) else None


def _not_there(name: str) -> JobFault:
    words = f"This model's processor cannot keep these images within {name}; leave it out."
    return JobFault("unsupported_parameter", words, name)

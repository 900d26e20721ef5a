"""How large pictures are shown to the model, where the request has a word in it."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from gateway.api.common.parameters import RequestPart, honoured, refused
from gateway.api.common.sampling import MAX_INT32, WholeNumber
from gateway.errors import InvalidRequest

Detail = Literal["auto", "low", "high", "original"]

LOW_DETAIL_PX = 512
"""OpenAI's: a picture is seen within a square of so many pixels a side."""

DETAIL = "low: scaled down to 512 pixels a side; else as the model's own processor asks for"
FOR_ALL = "set min_pixels and max_pixels of the whole request"


def detail_field(**constraints: Any) -> Any:
    return honoured(DETAIL, **constraints)


def of_all_images() -> Any:
    """A bound that stands beside one picture, where other servers have it."""
    return refused(FOR_ALL)


def longest_side_px(detail: Detail | None) -> int | None:
    return LOW_DETAIL_PX if detail == "low" else None


class ProcessorBounds(RequestPart):
    min_pixels: WholeNumber | None = Field(default=None, ge=1, le=MAX_INT32)
    max_pixels: WholeNumber | None = Field(default=None, ge=1, le=MAX_INT32)


class PictureSizes(RequestPart):
    """Of a request with pictures."""

    min_pixels: WholeNumber | None = honoured(
        "least pixels of each image, where the model's processor scales to such bounds",
        ge=1,
        le=MAX_INT32,
    )
    max_pixels: WholeNumber | None = honoured(
        "most pixels of each image, where the model's processor scales to such bounds, "
        "and at most the model's own",
        ge=1,
        le=MAX_INT32,
    )
    mm_processor_kwargs: ProcessorBounds | None = honoured("min_pixels and max_pixels, as in vLLM")

    def pixel_bounds(self) -> tuple[int | None, int | None]:
        """Return the least and the most pixels. Raises InvalidRequest where two are given."""
        other = self.mm_processor_kwargs
        if other is None:
            return self.min_pixels, self.max_pixels
        return (
            _one("min_pixels", self.min_pixels, other.min_pixels),
            _one("max_pixels", self.max_pixels, other.max_pixels),
        )


def _one(name: str, value: int | None, other: int | None) -> int | None:
    if None not in (value, other) and value != other:
        param = f"mm_processor_kwargs.{name}"
        raise InvalidRequest(f"{param}: differs from {name}; send one.", param=param)
    return other if value is None else value

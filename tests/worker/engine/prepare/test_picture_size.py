"""Pictures as large as the request wants them, or a refusal that names what cannot be had."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from tests.worker.engine.conftest import MakeDriver
from tests.worker.engine.driving import Driver, job, picture
from worker.engine.faults import JobFault
from worker.engine.prepare.preprocess import Prompt

LARGE = picture("red", (448, 448))
SMALL = picture("red", (28, 28))
BOUNDED = ["qwen2_vl", "qwen2_5_vl", "qwen3_vl"]
UNBOUNDED = ["llava", "idefics3", "gemma3", "smolvlm"]


def prepared(driver: Driver, data: bytes, side: int | None = None, **fields: Any) -> Prompt:
    asked, files = job("j", images=[data], **fields)
    infos = [msgspec.structs.replace(info, longest_side_px=side) for info in asked.images]
    asked = msgspec.structs.replace(asked, images=infos)
    return driver.prompt((asked, files))


@pytest.mark.parametrize("family", BOUNDED)
def test_bounds_on_pixels_change_how_many_tokens_a_picture_has(
    drive: MakeDriver, family: str
) -> None:
    driver = drive(family)
    own = prepared(driver, LARGE)
    less = prepared(driver, LARGE, max_pixels=4096)
    assert 0 < less.image_tokens < own.image_tokens
    more = prepared(driver, SMALL, min_pixels=8000)
    assert more.image_tokens > prepared(driver, SMALL).image_tokens
    assert len({tuple(prompt.image_keys) for prompt in (own, less, more)}) == 3
    assert list(less.key[: len(less.ids)]) != list(own.key[: len(less.ids)])


@pytest.mark.parametrize("family", UNBOUNDED)
@pytest.mark.parametrize("name", ["min_pixels", "max_pixels"])
def test_a_processor_without_bounds_is_told_of_by_name(
    drive: MakeDriver, family: str, name: str
) -> None:
    with pytest.raises(JobFault) as caught:
        prepared(drive(family), LARGE, **{name: 4096})
    assert (caught.value.code, caught.value.param) == ("unsupported_parameter", name)


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"max_pixels": 10**8}, "max_pixels"),
        ({"min_pixels": 10**8}, "min_pixels"),
        ({"min_pixels": 9000, "max_pixels": 8000}, "min_pixels"),
    ],
)
def test_the_models_own_bound_is_the_most(
    drive: MakeDriver, fields: dict[str, int], param: str
) -> None:
    with pytest.raises(JobFault) as caught:
        prepared(drive("qwen2_vl"), LARGE, **fields)
    assert (caught.value.code, caught.value.param) == ("invalid_request", param)


def test_a_picture_is_scaled_to_the_side_that_is_asked_for(drive: MakeDriver) -> None:
    driver = drive("qwen2_vl")
    wide = picture("red", (448, 112))
    own, scaled = prepared(driver, wide), prepared(driver, wide, side=56)
    assert own.image_tokens == prepared(driver, wide, side=448).image_tokens
    assert 0 < scaled.image_tokens < own.image_tokens
    assert scaled.image_keys != own.image_keys

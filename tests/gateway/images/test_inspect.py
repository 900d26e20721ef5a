"""Which files pass for images, and that hostile ones cost little."""

from __future__ import annotations

import time
import zlib
from collections.abc import Iterator
from hashlib import sha256
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from gateway.images.inspect import LoadedImage, decode, read_header, set_pillow_limits
from gateway.images.sources import InvalidImage
from shared.messages import ImageInfo
from tests.gateway.images.pictures import (
    drawn,
    gif_of,
    in_parts,
    jpeg_of_scans,
    noise,
    png_chunk,
    png_claiming,
    png_with_bomb,
)
from tests.properties import examples

MAX_PIXELS = 10_000


def inspect(data: bytes, param: str, max_pixels: int) -> ImageInfo:
    return inspected(data, param, max_pixels)[0]


def inspected(data: bytes, param: str = "p", max_pixels: int = MAX_PIXELS) -> LoadedImage:
    return decode(data, read_header(data, param, max_pixels), param, max_pixels)


@pytest.fixture(autouse=True)
def pillow_limits() -> Iterator[None]:
    """The limits are the process's own: other tests get theirs back."""
    before = Image.MAX_IMAGE_PIXELS
    set_pillow_limits(MAX_PIXELS)
    yield
    Image.MAX_IMAGE_PIXELS = before


# What that sets for the process, the test runner takes back for each test.
pytestmark = pytest.mark.filterwarnings("error::PIL.Image.DecompressionBombWarning")

PARTS: dict[str, tuple[str, bytes]] = {
    "comments": ("JPEG", b"\xff\xfe\0\2"),
    "segments": ("JPEG", b"\xff\xed\0\2"),
    "segments of less than no length": ("JPEG", b"\xff\xfe\0\0"),
    "padding": ("JPEG", b"\xff"),
    "junk": ("JPEG", b"\xff\0"),
    "chunks": ("PNG", png_chunk(b"prVt")),
    "empty data": ("PNG", png_chunk(b"IDAT")),
    "texts": ("PNG", png_chunk(b"tEXt", b"name\0text")),
    "gif comments": ("GIF", b"!\xfe\1c\0"),
    "delays": ("GIF", b"!\xf9\4\0\0\0\0\0"),
    "gif junk": ("GIF", b"\0"),
}

GOOD = {
    "png": (drawn("PNG"), "image/png"),
    "png alpha": (drawn("PNG", mode="RGBA"), "image/png"),
    "png gray": (drawn("PNG", mode="L"), "image/png"),
    "png 16 bit": (drawn("PNG", mode="I;16"), "image/png"),
    "png palette": (drawn("PNG", mode="P"), "image/png"),
    "jpeg": (drawn("JPEG"), "image/jpeg"),
    "jpeg cmyk": (drawn("JPEG", mode="CMYK"), "image/jpeg"),
    "jpeg progressive": (drawn("JPEG", progressive=True), "image/jpeg"),
    "webp": (drawn("WEBP"), "image/webp"),
    "webp lossless alpha": (drawn("WEBP", mode="RGBA", lossless=True), "image/webp"),
    "jpeg with a few scans": (jpeg_of_scans(20, (8, 6)), "image/jpeg"),
    "jpeg with a preview": (
        drawn("JPEG", exif=b"Exif\0\0" + b"\xff\xda\0\3" * 1000),
        "image/jpeg",
    ),
    "gif": (drawn("GIF", mode="P"), "image/gif"),
    "gif frames": (gif_of(30), "image/gif"),
    **{
        name: (in_parts(kind, 5000, part), f"image/{kind.lower()}")
        for name, (kind, part) in PARTS.items()
    },
}

BAD = {
    "empty": b"",
    "text": b"hello world, I am no image",
    "svg": b"<svg xmlns='http://www.w3.org/2000/svg'/>",
    "html": b"<!doctype html><p>404",
    "bmp": drawn("BMP"),
    "tiff": drawn("TIFF"),
    "ico": drawn("ICO", size=(16, 16)),
    "pdf": drawn("PDF"),
    "ppm": drawn("PPM"),
    "eps": drawn("EPS"),
    "too many pixels": drawn("PNG", size=(101, 100)),
    "bomb header": png_claiming(50_000, 50_000),
    "bomb beyond integers": png_claiming(2**31 - 1, 2**31 - 1),
    "no width": png_claiming(0, 10),
    "short data": png_claiming(90, 90),
    "scan bomb": jpeg_of_scans(100_000),
    "text bomb": png_with_bomb(b"zTXt"),
    "text bombs": in_parts("PNG", 20, png_chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(10**6)))),
    **{f"many {name}": in_parts(kind, 20_000, part) for name, (kind, part) in PARTS.items()},
    "png signature only": b"\x89PNG\r\n\x1a\n",
    "jpeg signature only": b"\xff\xd8\xff\xe0",
    "webp signature only": b"RIFF\x00\x00\x00\x00WEBPVP8 ",
    "gif signature only": b"GIF89a",
}


@pytest.mark.parametrize("name", GOOD)
def test_good_images_are_described(name: str) -> None:
    data, media_type = GOOD[name]
    info = inspect(data, "p", MAX_PIXELS)
    assert (info.width_px, info.height_px) == (8, 6)
    assert info.media_type == media_type
    assert info.sha256 == sha256(data).hexdigest()


@pytest.mark.parametrize("name", BAD)
def test_bad_images_are_refused_quickly(name: str) -> None:
    began = time.monotonic()
    with pytest.raises(InvalidImage) as caught:
        inspect(BAD[name], "messages[0].content[1]", MAX_PIXELS)
    assert time.monotonic() - began < 1
    assert caught.value.param == "messages[0].content[1]"
    assert caught.value.message.startswith("messages[0].content[1]: ")


@pytest.mark.parametrize("image_format", ["PNG", "JPEG", "WEBP", "GIF"])
def test_cut_off_images_are_refused(image_format: str) -> None:
    data = noise(image_format)
    for length in range(0, len(data) * 3 // 4, len(data) // 40):
        with pytest.raises(InvalidImage):
            inspect(data[:length], "p", MAX_PIXELS)


WITHOUT_END: dict[str, dict[str, Any]] = {
    "plain": {},
    "progressive": {"progressive": True},
    "with restarts": {"restart_marker_blocks": 2},
    "gray": {"mode": "L"},
}


@pytest.mark.parametrize("kind", WITHOUT_END)
@pytest.mark.parametrize("missing", [1, 2])
def test_a_jpeg_without_its_end_mark_gets_one(kind: str, missing: int) -> None:
    data = drawn("JPEG", (60, 50), **WITHOUT_END[kind])
    info, file = inspected(data[:-missing])
    assert file == data
    assert info.sha256 == sha256(data).hexdigest()


@pytest.mark.parametrize("progressive", [False, True])
def test_a_jpeg_that_lacks_a_part_of_its_picture_is_refused(progressive: bool) -> None:
    """Browsers fill the rest with gray; a model would tell what it sees of that."""
    data = noise("JPEG", progressive=progressive)
    for length in range(len(data) * 3 // 4, len(data) - 8, len(data) // 40):
        with pytest.raises(InvalidImage):
            inspect(data[:length], "p", MAX_PIXELS)


@settings(max_examples=examples(300), deadline=None)
@given(
    data=st.sampled_from([data for data, _ in GOOD.values()]),
    place=st.integers(0, 10_000),
    junk=st.binary(min_size=1, max_size=8),
)
def test_damage_is_accepted_or_refused_never_worse(data: bytes, place: int, junk: bytes) -> None:
    at = place % len(data)
    damaged = data[:at] + junk + data[at + len(junk) :]
    try:
        info = inspect(damaged, "p", MAX_PIXELS)
    except InvalidImage:
        return
    assert info.width_px * info.height_px <= MAX_PIXELS

"""What the worker makes of pictures that no honest gateway would have let through, and of odd ones
that it would."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("mlx_vlm", exc_type=ImportError)

from tests.gateway.images.pictures import drawn, png_claiming, png_with_bomb
from worker.engine.faults import JobFault
from worker.engine.prepare.preprocess import decode_image

GARBAGE = {
    "nothing": b"",
    "text": b"no image",
    "bomb header": png_claiming(50_000, 50_000),
    "text bomb": png_with_bomb(b"zTXt"),
    "cut off": drawn("PNG", (50, 50))[:60],
    **{name: drawn(name, (16, 16)) for name in ("BMP", "TIFF", "PPM", "EPS", "PDF", "ICO")},
}

EXIF = [
    b"Exif\0\0II*\0\xff\xff\xff\xff",
    b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01" + b"\xff" * 10,
    b"Exif\0\0MM\0*",
    b"Exif\0\0" + b"\xff" * 50,
]


@pytest.mark.parametrize("name", GARBAGE)
def test_garbage_is_a_fault_of_the_job(name: str) -> None:
    with pytest.raises(JobFault) as caught:
        decode_image(GARBAGE[name])
    assert caught.value.code == "invalid_image"
    assert " at 0x" not in caught.value.message


@pytest.mark.parametrize("exif", EXIF)
@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
def test_broken_metadata_is_dropped(exif: bytes) -> None:
    assert decode_image(drawn("JPEG", exif=exif)).size == (8, 6)


def test_sixteen_bits_become_eight() -> None:
    buffer = io.BytesIO()
    shades = np.linspace(0, 65535, 64 * 64).reshape(64, 64).astype(np.uint16)
    Image.fromarray(shades).save(buffer, "PNG")
    pixels = np.asarray(decode_image(buffer.getvalue()))
    assert pixels.shape == (64, 64, 3)
    assert len(np.unique(pixels)) == 256
    assert abs(pixels.mean() - 127.5) < 1


def test_what_is_transparent_is_white_and_cmyk_is_rgb() -> None:
    buffer = io.BytesIO()
    Image.new("RGBA", (4, 4), (255, 0, 0, 0)).save(buffer, "PNG")
    assert decode_image(buffer.getvalue()).getpixel((0, 0)) == (255, 255, 255)
    buffer = io.BytesIO()
    Image.new("CMYK", (4, 4)).save(buffer, "JPEG")
    assert decode_image(buffer.getvalue()).getpixel((0, 0)) == (255, 255, 255)


def test_a_picture_lying_on_its_side_is_put_upright() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    assert decode_image(drawn("JPEG", (8, 6), exif=exif.tobytes())).size == (6, 8)

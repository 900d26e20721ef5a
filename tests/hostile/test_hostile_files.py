"""HEIC, AVIF, TIFF, BMP and PDF files that mean harm: each costs little, and only itself."""

from __future__ import annotations

import struct
import sys
import time
import zlib

import pytest

from gateway.images import conversion
from gateway.images.conversion import ConversionLimits, converting
from gateway.images.kinds import Kind, kind_of
from gateway.images.sources import InvalidImage
from tests.gateway.images.pictures import drawn, pages

pytestmark = pytest.mark.process

LIMITS = ConversionLimits(20_000_000, 50_000_000, max_pages=16)


async def convert(data: bytes, kind: Kind | None = None) -> list[bytes]:
    kind = kind or kind_of(data)
    assert kind is not None
    async with converting(data, kind, LIMITS, "here") as opened:
        return [picture async for picture in opened.pictures()]


def claiming(image_format: str, width: int, height: int) -> bytes:
    """A picture in an ISO container that says it is larger than it is."""
    data = drawn(image_format, (64, 64))
    true = b"ispe" + bytes(4) + struct.pack(">II", 64, 64)
    assert true in data
    return data.replace(true, b"ispe" + bytes(4) + struct.pack(">II", width, height))


def tiff_claiming(width: int, height: int) -> bytes:
    tags = [
        (256, 4, width),
        (257, 4, height),
        (258, 3, 8),
        (259, 3, 8),
        (262, 3, 1),
        (273, 4, 200),
        (277, 3, 1),
        (278, 4, height),
        (279, 4, 100),
    ]
    entries = b"".join(struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in tags)
    head = b"II*\0" + struct.pack("<I", 8) + struct.pack("<H", len(tags)) + entries + bytes(4)
    return head.ljust(200, b"\0") + zlib.compress(b"\0" * 1000)


def bmp_claiming(width: int, height: int) -> bytes:
    data = bytearray(drawn("BMP"))
    data[18:26] = struct.pack("<ii", width, height)
    return bytes(data)


def pdf(*objects: bytes) -> bytes:
    """A PDF of these objects, the catalogue first; its readers find them without a table."""
    body = b"%PDF-1.7\n"
    places = []
    for number, each in enumerate(objects, 1):
        places.append(len(body))
        body += b"%d 0 obj\n" % number + each + b"\nendobj\n"
    table = b"".join(b"%010d 00000 n \n" % place for place in places)
    head = b"xref\n0 %d\n0000000000 65535 f \n" % (len(objects) + 1)
    end = b"trailer\n<</Root 1 0 R/Size %d>>\nstartxref\n%d\n%%%%EOF"
    return body + head + table + end % (len(objects) + 1, len(body))


def pdf_page(content: bytes, box: bytes = b"0 0 100 100", times: int = 1) -> bytes:
    """A PDF of one page, on which `content` is drawn so many times."""
    packer = zlib.compressobj(1)
    stream = b"".join([*(packer.compress(content) for _ in range(times)), packer.flush()])
    return pdf(
        b"<</Type/Catalog/Pages 2 0 R>>",
        b"<</Type/Pages/Kids[3 0 R]/Count 1>>",
        b"<</Type/Page/Parent 2 0 R/MediaBox[" + box + b"]/Contents 4 0 R>>",
        b"<</Length %d/Filter/FlateDecode>>stream\n%b\nendstream" % (len(stream), stream),
    )


BOMBS: dict[str, bytes] = {
    "HEIC of many pixels": claiming("HEIF", 60_000, 60_000),
    "AVIF of many pixels": claiming("AVIF", 60_000, 60_000),
    "HEIC without width": claiming("HEIF", 0, 48),
    "TIFF of many pixels": tiff_claiming(100_000, 100_000),
    "TIFF of the most pixels": tiff_claiming(2**32 - 1, 2**32 - 1),
    "BMP of many pixels": bmp_claiming(30_000, 30_000),
    "BMP of no height": bmp_claiming(30_000, 0),
    "PDF of many pages": pages([(9, 9)] * 17),
    "PDF of no page": pdf(b"<</Type/Catalog/Pages 2 0 R>>", b"<</Type/Pages/Kids[]/Count 0>>"),
    "PDF whose pages are each other's": pdf(
        b"<</Type/Catalog/Pages 2 0 R>>",
        b"<</Type/Pages/Kids[3 0 R]/Count 5>>",
        b"<</Type/Pages/Kids[2 0 R]/Parent 2 0 R/Count 5>>",
    ),
}


@pytest.mark.parametrize("name", BOMBS)
async def test_it_is_refused_before_it_is_drawn(name: str) -> None:
    began = time.monotonic()
    with pytest.raises(InvalidImage) as refused:
        await convert(BOMBS[name])
    assert refused.value.param == "here"
    assert time.monotonic() - began < 5


async def test_a_page_without_bounds_is_drawn_small() -> None:
    (page,) = await convert(pdf_page(b"0 0 m 9 9 l S", b"0 0 14000 14000"))
    assert len(page) < 1_000_000


async def test_a_page_that_takes_for_ever_ends_with_its_processor_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(conversion, "CPU_S", 1)
    data = pdf_page(b"0 0 m 100 100 100 0 0 100 c S\n" * 100_000, times=50)
    assert len(data) < 1_000_000
    with pytest.raises(InvalidImage, match="damaged"):
        await convert(data)


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere memory has no such bound")
async def test_a_page_that_takes_all_memory_ends_alone() -> None:
    data = pdf_page(b" " * (16 << 20), times=44)
    assert len(data) < 4_000_000
    with pytest.raises(InvalidImage):
        await convert(data)

"""Small images, good and hostile, drawn or written byte by byte."""

from __future__ import annotations

import base64
import io
import random
import struct
import zlib
from collections.abc import Sequence
from typing import Any

from PIL import Image
from pillow_heif import register_heif_opener

from gateway.memory import MemoryBudget

register_heif_opener()  # so that `drawn` can write HEIF


def budget(max_bytes: int = 1 << 40) -> MemoryBudget:
    return MemoryBudget(max_bytes, lambda size_bytes: None)


def drawn(image_format: str, size: tuple[int, int] = (8, 6), mode: str = "RGB", **kw: Any) -> bytes:
    buffer = io.BytesIO()
    Image.new(mode, size, 1).save(buffer, image_format, **kw)
    return buffer.getvalue()


def noise(image_format: str, size: tuple[int, int] = (60, 50), **kw: Any) -> bytes:
    buffer = io.BytesIO()
    pixels = random.Random(7).randbytes(size[0] * size[1] * 3)
    Image.frombytes("RGB", size, pixels).save(buffer, image_format, **kw)
    return buffer.getvalue()


def pages(sizes: Sequence[tuple[int, int]], color: str = "red") -> bytes:
    """A PDF of so many pages, in points."""
    first, *others = [Image.new("RGB", size, color) for size in sizes]
    buffer = io.BytesIO()
    first.save(buffer, "PDF", save_all=True, append_images=others)
    return buffer.getvalue()


def data_url(data: bytes, media_type: str = "image/png") -> str:
    return f"data:{media_type};base64,{base64.b64encode(data).decode()}"


def png_claiming(width: int, height: int) -> bytes:
    """A PNG whose header claims a size that its one row of data does not have."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + png_chunk(b"IHDR", header)
        + png_chunk(b"IDAT", zlib.compress(b"\0" * 100))
        + png_chunk(b"IEND", b"")
    )


def png_with_bomb(kind: bytes) -> bytes:
    """A PNG with a compressed text or profile chunk that unpacks to 100 MB."""
    packed = zlib.compress(b"\0" * 100_000_000, 9)
    small = drawn("PNG")
    after_header = 8 + 25
    return small[:after_header] + png_chunk(kind, b"name\0\0" + packed) + small[after_header:]


def jpeg_of_scans(scans: int, size: tuple[int, int] = (90, 90)) -> bytes:
    """A progressive JPEG whose last scan is repeated."""
    data = drawn("JPEG", size, "L", progressive=True)
    last = data.rindex(b"\xff\xda")
    return data[:-2] + data[last:-2] * (scans - data.count(b"\xff\xda")) + data[-2:]


def in_parts(image_format: str, parts: int, part: bytes) -> bytes:
    """A picture with so many more parts behind its first ones."""
    data = drawn(image_format, mode="P" if image_format == "GIF" else "RGB")
    palette_bytes = 3 * (2 << (data[10] & 7))
    place = {"JPEG": 2, "PNG": 8 + 25, "GIF": 13 + palette_bytes}[image_format]
    return data[:place] + part * parts + data[place:]


def png_chunk(kind: bytes, data: bytes = b"") -> bytes:
    checksum = zlib.crc32(kind + data)
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", checksum)


def gif_of(frames: int) -> bytes:
    images = [Image.new("P", (8, 6), number % 250) for number in range(frames)]
    buffer = io.BytesIO()
    images[0].save(buffer, "GIF", save_all=True, append_images=images[1:])
    return buffer.getvalue()

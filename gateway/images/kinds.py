"""What kind of picture a file holds, told by its first bytes and not by what it is called."""

from __future__ import annotations

import binascii
from typing import Literal

Kind = Literal["PNG", "JPEG", "WEBP", "GIF", "HEIF", "AVIF", "TIFF", "BMP", "PDF"]

KNOWN = "PNG, JPEG, WebP, GIF, HEIC, AVIF, TIFF or BMP image and no PDF"

_AVIF_BRANDS = frozenset({b"avif", b"avis"})
_HEIF_BRANDS = frozenset(
    {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs", b"mif1", b"msf1"}
)
_HEAD_BYTES = 12
_PDF_MARGIN_BYTES = 1024
"""What may stand before a PDF's header, as its readers have it."""


def kind_of(data: bytes) -> Kind | None:
    """Return the kind of a file, of which a kilobyte is enough; None: no picture is known so."""
    head = data[:_HEAD_BYTES]
    if head.startswith(b"\xff\xd8\xff"):
        return "JPEG"
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        return "PNG"
    if head.startswith((b"GIF87a", b"GIF89a")):
        return "GIF"
    if head[:4] == b"RIFF" and head[8:] == b"WEBP":
        return "WEBP"
    if head[4:8] == b"ftyp":
        return _of_container(data)
    if head.startswith((b"II*\0", b"MM\0*")):
        return "TIFF"
    if head[:2] == b"BM" and head[6:10] == bytes(4):
        return "BMP"
    return "PDF" if b"%PDF-" in data[:_PDF_MARGIN_BYTES] else None


def is_base64_of_picture(text: str) -> bool:
    """Whether this begins as the base64 of a picture's file: no URL does, nor a file's name."""
    try:
        head = binascii.a2b_base64(text[:64].encode("ascii"))
    except (binascii.Error, UnicodeEncodeError):
        return False
    return kind_of(head) is not None


def _of_container(data: bytes) -> Kind | None:
    """Of the ISO container that films have, too: its brand tells, or else those it goes with."""
    length = min(int.from_bytes(data[:4], "big"), 256)
    brands = [data[8:12], *(data[place : place + 4] for place in range(16, length, 4))]
    if brands[0] in _AVIF_BRANDS or (brands[0] == b"mif1" and _AVIF_BRANDS & set(brands)):
        return "AVIF"
    return "HEIF" if _HEIF_BRANDS & set(brands) else None

"""Of how many parts a picture's file is made.

Pillow reads the segments, chunks and blocks of a file one by one, and each takes microseconds, with
the interpreter locked: 20 MB of JPEG comments without a letter took 8 s, and as much again when the
picture was decoded. Limits on bytes and pixels do not see that.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice

from gateway.images.kinds import Kind, kind_of

MAX_PARTS = 16_384
"""Data in pieces of 4 kB, which is as small as encoders make them, are 5,000 for 20 MB."""

_JPEG_WITHOUT_LENGTH = frozenset({0x01, *range(0xD0, 0xD9)})
_END_OF_IMAGE, _START_OF_SCAN = 0xD9, 0xDA


def has_too_many_parts(data: bytes) -> bool:
    """Whether the file has more than `MAX_PARTS`, where it is of a kind that has any."""
    kind = kind_of(data)
    parts = _PARTS.get(kind) if kind is not None else None
    return parts is not None and any(True for _ in islice(parts(data), MAX_PARTS, None))


def _segments(data: bytes) -> Iterator[int]:
    """Where those of a JPEG begin, up to its first scan; bytes between them count as one each."""
    place = 2
    while place + 1 < len(data):
        yield place
        marker = data[place + 1]
        if data[place] != 0xFF or marker in (0x00, 0xFF):
            place += 1
            continue
        if marker in (_START_OF_SCAN, _END_OF_IMAGE):
            return
        place += 2
        if marker not in _JPEG_WITHOUT_LENGTH:
            place += max(2, int.from_bytes(data[place : place + 2], "big"))


def _chunks(data: bytes) -> Iterator[int]:
    """Where those of a PNG begin."""
    place = 8
    while place + 8 <= len(data) and data[place + 4 : place + 8] != b"IEND":
        yield place
        place += 12 + int.from_bytes(data[place : place + 4], "big")


def _blocks(data: bytes) -> Iterator[int]:
    """Where those of a GIF's extensions begin, up to its first image; bytes between them count as
    one each."""
    flags = data[10] if len(data) > 10 else 0
    place = 13 + (3 * (2 << (flags & 7)) if flags & 0x80 else 0)
    while place < len(data) and data[place : place + 1] not in (b",", b";"):
        yield place
        if data[place : place + 1] != b"!":
            place += 1
            continue
        place += 2
        while place < len(data) and data[place]:
            yield place
            place += 1 + data[place]
        place += 1


_PARTS: dict[Kind, Callable[[bytes], Iterator[int]]] = {
    "JPEG": _segments,
    "PNG": _chunks,
    "GIF": _blocks,
}

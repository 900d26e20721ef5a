"""How often a JPEG goes over its picture.

A progressive JPEG is decoded scan by scan, each over all its pixels. A scan that changes nothing
takes a hundred bytes: 200 kB with a hundred of them over 49 million pixels measured 18 s of
decoding, and 20 MB would take half an hour. Limits on bytes and pixels do not see that.
"""

from __future__ import annotations

import re

MAX_SCANS = 64
"""Encoders write about ten; each component and each of 8 bits apart would make 32."""

_END_OF_IMAGE = 0xD9
_START_OF_SCAN = 0xDA
_WITHOUT_LENGTH = frozenset({0x01, *range(0xD0, 0xD9)})

# In a scan's own data 0xFF is followed by 0 or by the number of a restart.
_MARKER = re.compile(rb"\xff+([\x01-\xcf\xd8-\xfe])")


def count_scans(data: bytes) -> int:
    """Return the number of scans of a JPEG file's first picture, or `MAX_SCANS` + 1 for more."""
    scans = 0
    place = 2
    while (found := _MARKER.search(data, place)) is not None:
        marker = found[1][0]
        place = found.end()
        if marker == _END_OF_IMAGE:
            break
        if marker in _WITHOUT_LENGTH:
            continue
        scans += marker == _START_OF_SCAN
        if scans > MAX_SCANS:
            break
        place += int.from_bytes(data[place : place + 2], "big")
    return scans

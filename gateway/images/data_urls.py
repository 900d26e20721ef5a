"""Data URLs: strict base64, any spelling of the media type, bounded before it is decoded."""

from __future__ import annotations

import binascii

from gateway.generation import ImageSource
from gateway.images.sources import InvalidImage

SLICE_CHARACTERS = 1 << 20
"""Base64 is decoded in slices of this size (a multiple of 4): decoding holds the interpreter's
lock, and the event loop must get its turn in between."""


def decode_data_url(source: ImageSource, max_bytes: int) -> bytes:
    """Return the bytes; to be called off the event loop when the URL is long.

    Raises:
        InvalidImage: not base64, not a data URL's form, empty, or more than `max_bytes`.
    """
    header, comma, payload = source.url.partition(",")
    if not comma:
        raise InvalidImage(
            f"{source.param}: a data URL needs a comma before the data.", param=source.param
        )
    if header[-7:].lower() != ";base64":
        raise InvalidImage(
            f"{source.param}: a data URL must say ';base64' before the comma.", param=source.param
        )
    if len(payload) * 3 // 4 > max_bytes + 2:
        raise InvalidImage(
            f"{source.param}: the image is larger than {max_bytes} bytes.", param=source.param
        )
    data = _decode(payload, source.param)
    if not data:
        raise InvalidImage(f"{source.param}: the data URL holds no data.", param=source.param)
    return data


def _decode(payload: str, param: str) -> bytes:
    # Some clients leave the padding out; the rest must be exact.
    payload += "=" * (-len(payload) % 4)
    pieces = []
    try:
        for start in range(0, len(payload), SLICE_CHARACTERS):
            piece = payload[start : start + SLICE_CHARACTERS]
            if "=" in piece and start + SLICE_CHARACTERS < len(payload):
                raise binascii.Error("padding before the end")
            pieces.append(binascii.a2b_base64(piece, strict_mode=True))
    except (binascii.Error, ValueError):
        raise InvalidImage(f"{param}: the data is not valid base64.", param=param) from None
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)

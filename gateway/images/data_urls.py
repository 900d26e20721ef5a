"""Data URLs: strict base64, any spelling of the media type, bounded before it is decoded."""

from __future__ import annotations

import binascii
import io

from gateway.generation import ImageSource
from gateway.images.sources import InvalidImage

SLICE_CHARACTERS = 1 << 18
"""Base64 is decoded in slices of this size (a multiple of 4): decoding holds the interpreter's
lock, and the event loop must get its turn in between. For the same reason nothing here copies a
whole image at once: cutting the payload off its URL, padding it and joining the pieces took 20 ms
each for 20 MB (measured on the busy development machine)."""


def decode_data_url(source: ImageSource, max_bytes: int) -> bytes:
    """Return the bytes; to be called off the event loop when the URL is long.

    Raises:
        InvalidImage: not base64, not a data URL's form, empty, or more than `max_bytes`.
    """
    url = source.url
    comma = url.find(",")
    if comma < 0:
        raise InvalidImage(
            f"{source.param}: a data URL needs a comma before the data.", param=source.param
        )
    if url[max(0, comma - 7) : comma].lower() != ";base64":
        raise InvalidImage(
            f"{source.param}: a data URL must say ';base64' before the comma.", param=source.param
        )
    if (len(url) - comma - 1) * 3 // 4 > max_bytes + 2:
        raise InvalidImage(
            f"{source.param}: the image is larger than {max_bytes} bytes.", param=source.param
        )
    data = _decode(url, comma + 1, source.param)
    if not data:
        raise InvalidImage(f"{source.param}: the data URL holds no data.", param=source.param)
    return data


def _decode(url: str, start: int, param: str) -> bytes:
    """Decode what follows `start`. Some clients leave the padding out; the rest must be exact."""
    decoded = io.BytesIO()
    try:
        for begin in range(start, len(url), SLICE_CHARACTERS):
            end = begin + SLICE_CHARACTERS
            piece = url[begin:end]
            if end >= len(url):
                piece += "=" * (-len(piece) % 4)
            elif "=" in piece:
                raise binascii.Error("padding before the end")
            decoded.write(binascii.a2b_base64(piece, strict_mode=True))
    except (binascii.Error, ValueError):
        raise InvalidImage(f"{param}: the data is not valid base64.", param=param) from None
    return decoded.getvalue()

"""Data URLs, and base64 alone, as tools write them: bounded while they are decoded.

White space, the alphabet for URLs, escapes such as `%3D` and missing padding change nothing of what
is meant; a character of no alphabet, or padding before the end, does.
"""

from __future__ import annotations

import binascii
import io
import re
from urllib.parse import unquote_to_bytes

from gateway.generation import ImageSource
from gateway.images.sources import InvalidImage, is_data_url

SLICE_CHARACTERS = 1 << 18
"""Base64 is decoded in slices of this size: decoding holds the interpreter's lock, and the event
loop must get its turn in between. For the same reason nothing here copies a whole image at once:
cutting the payload off its URL, padding it and joining the pieces took 20 ms each for 20 MB
(measured on the busy development machine)."""

HEAD_CHARACTERS = 1024
"""A data URL's comma comes before."""

_SAYS_BASE64 = re.compile(r";\s*base64\s*\Z", re.IGNORECASE)
_FROM_URL_ALPHABET = bytes.maketrans(b"-_", b"+/")
_WHITE_SPACE = b" \t\r\n\f\v"


def decode_data_url(source: ImageSource, max_bytes: int) -> bytes:
    """Return the bytes; to be called off the event loop when the URL is long.

    Raises:
        InvalidImage: not base64, not a data URL's form, empty, or more than `max_bytes`.
    """
    begin = _begin_of_data(source) if is_data_url(source.url) else 0
    data = _decode(source, begin, max_bytes)
    if not data:
        raise InvalidImage(f"{source.param}: the data URL holds no data.", param=source.param)
    return data


def _begin_of_data(source: ImageSource) -> int:
    comma = source.url.find(",", 0, HEAD_CHARACTERS)
    if comma < 0:
        raise InvalidImage(
            f"{source.param}: a data URL needs a comma before the data.", param=source.param
        )
    if not _SAYS_BASE64.search(source.url[:comma]):
        raise InvalidImage(
            f"{source.param}: a data URL must say ';base64' before the comma.", param=source.param
        )
    return comma + 1


def _decode(source: ImageSource, begin: int, max_bytes: int) -> bytes:
    url = source.url
    decoded = io.BytesIO()
    rest, padded = b"", False
    try:
        for start in range(begin, len(url), SLICE_CHARACTERS):
            end = start + SLICE_CHARACTERS
            piece, rest = _whole_groups(rest + url[start:end].encode("ascii"), end >= len(url))
            if padded and piece:
                raise binascii.Error("padding before the end")
            padded = piece.endswith(b"=")
            decoded.write(binascii.a2b_base64(piece, strict_mode=True))
            if decoded.tell() > max_bytes:
                raise InvalidImage(
                    f"{source.param}: the image is larger than {max_bytes} bytes.",
                    param=source.param,
                )
    except (binascii.Error, UnicodeEncodeError):
        raise InvalidImage(
            f"{source.param}: the data is not valid base64.", param=source.param
        ) from None
    return decoded.getvalue()


def _whole_groups(text: bytes, is_last: bool) -> tuple[bytes, bytes]:
    """Return plain base64 in groups of four characters, and what belongs to the next slice."""
    kept = b""
    if b"%" in text:
        escape = text.rfind(b"%", max(0, len(text) - 2))
        if escape >= 0 and not is_last:
            text, kept = text[:escape], text[escape:]
        text = unquote_to_bytes(text)
    text = text.translate(_FROM_URL_ALPHABET, _WHITE_SPACE)
    if is_last:
        return text + b"=" * (-len(text) % 4), b""
    whole = len(text) // 4 * 4
    return text[:whole], text[whole:] + kept

"""JPEG files without their end mark, as some cameras and tools write them; browsers show them.

A decoder fills what is missing of a picture with gray and says nothing. So it is tried whether
anything is missing: what stands behind complete data changes no pixel, in place of data it does.
"""

from __future__ import annotations

import io
from hashlib import sha256

from PIL import Image

END = b"\xff\xd9"
_RESTARTS = [bytes((0xFF, 0xD0 + number)) for number in range(8)]
_OTHER_DATA = bytes(range(1, 128)).join([b"", *_RESTARTS, *_RESTARTS, b""])
"""In which a decoder finds its place again, whatever it waits for."""
_ROWS_AT_ONCE = 64


def with_end(data: bytes) -> bytes | None:
    """Return the file with its end mark, if that is all it lacks; None if picture data lack too.

    Decodes it twice, one after the other. Raises what Pillow does.
    """
    whole = data.removesuffix(b"\xff") + END
    cut = whole[: -len(END)]
    return whole if _pixels(whole) == _pixels(cut + _OTHER_DATA + END) else None


def _pixels(data: bytes) -> bytes:
    """Return a digest of them, made in pieces: a copy of all of them would be as large again."""
    digest = sha256()
    with Image.open(io.BytesIO(data), formats=("JPEG",)) as image:
        width, height = image.size
        image.load()
        for top in range(0, height, _ROWS_AT_ONCE):
            strip = (0, top, width, min(top + _ROWS_AT_ONCE, height))
            digest.update(image.crop(strip).tobytes())
    return digest.digest()

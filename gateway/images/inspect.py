"""Is this a whole image, of a known format, within bounds? Judged header first, then decoded."""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256

from PIL import Image, PngImagePlugin, UnidentifiedImageError

from gateway.images.jpeg_end import with_end
from gateway.images.jpeg_scans import MAX_SCANS, count_scans
from gateway.images.kinds import KNOWN
from gateway.images.parts import MAX_PARTS, has_too_many_parts
from gateway.images.sources import InvalidImage
from shared.messages import ImageInfo

FORMATS = {"PNG": "image/png", "JPEG": "image/jpeg", "WEBP": "image/webp", "GIF": "image/gif"}

# A phone's JPEG with a second picture behind the first; the first one counts.
ALIASES = {"MPO": "JPEG"}

BYTES_PER_PIXEL = {"image/png": 4, "image/jpeg": 4, "image/webp": 17, "image/gif": 4}
BYTES_OF_SCANS = 12
"""Memory of decoding, as measured with Pillow 12 over 16 million pixels. libwebp keeps four copies
of a picture; libjpeg keeps the coefficients of all components until the last of several scans."""


MAX_TEXT_BYTES = 8 << 20
"""What all texts of a PNG may take, unpacked; they are in memory while it is looked at."""

LoadedImage = tuple[ImageInfo, bytes]


def set_pillow_limits(max_pixels: int) -> None:
    """Make Pillow itself refuse, for this process, what we would not decode."""
    Image.MAX_IMAGE_PIXELS = max_pixels
    PngImagePlugin.MAX_TEXT_MEMORY = MAX_TEXT_BYTES
    warnings.filterwarnings("error", category=Image.DecompressionBombWarning)


@dataclass(frozen=True)
class Header:
    """What a file says of its picture, before any pixel is decoded."""

    media_type: str
    width_px: int
    height_px: int
    decoding_bytes: int
    """Memory that decoding takes."""

    @property
    def pixels(self) -> int:
        return self.width_px * self.height_px


def read_header(data: bytes, param: str, max_pixels: int) -> Header:
    """Judge what can be judged without decoding; belongs off the event loop.

    Raises:
        InvalidImage: unknown format or too many pixels, scans or parts, or the header is damaged.
    """
    if has_too_many_parts(data):
        raise InvalidImage(f"{param}: the file has more than {MAX_PARTS} parts.", param=param)
    with _opened(data, param, max_pixels) as image:
        width, height = image.size
        if width * height > max_pixels:
            raise _too_many_pixels(param, max_pixels)
        media_type = FORMATS[ALIASES.get(image.format or "", image.format or "")]
        scans = count_scans(data) if media_type == "image/jpeg" else 1
        if scans > MAX_SCANS:
            raise InvalidImage(f"{param}: the JPEG has more than {MAX_SCANS} scans.", param=param)
    pixel_bytes = BYTES_OF_SCANS if scans > 1 else BYTES_PER_PIXEL[media_type]
    return Header(media_type, width, height, width * height * pixel_bytes)


def decode(data: bytes, header: Header, param: str, max_pixels: int) -> LoadedImage:
    """Decode the image once, to be sure of it, and describe it.

    Takes `header.decoding_bytes` of memory and belongs off the event loop.

    Returns:
        The description, and the file; a JPEG that lacked nothing but its end mark has one.

    Raises:
        InvalidImage: the file is damaged or cut off.
    """
    with _opened(data, param, max_pixels) as image:
        try:
            image.load()
        except OSError:
            whole = with_end(data) if header.media_type == "image/jpeg" else None
            if whole is None:
                raise
            data = whole
    return _described(data, header), data


def checked(data: bytes, param: str, max_pixels: int) -> LoadedImage:
    """Describe a picture that need not be decoded to be sure of it. Raises as `read_header`."""
    return _described(data, read_header(data, param, max_pixels)), data


def not_a_picture(param: str) -> InvalidImage:
    return InvalidImage(f"{param}: this is no {KNOWN}.", param=param)


def _described(data: bytes, header: Header) -> ImageInfo:
    return ImageInfo(
        sha256=sha256(data).hexdigest(),
        media_type=header.media_type,
        width_px=header.width_px,
        height_px=header.height_px,
    )


@contextmanager
def _opened(data: bytes, param: str, max_pixels: int) -> Iterator[Image.Image]:
    """Raises InvalidImage for whatever goes wrong in the block, too."""
    try:
        with Image.open(io.BytesIO(data), formats=tuple(FORMATS)) as image:
            yield image
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise _too_many_pixels(param, max_pixels) from None
    except UnidentifiedImageError:
        raise not_a_picture(param) from None
    except MemoryError:
        raise InvalidImage(f"{param}: the image takes too much memory.", param=param) from None
    except InvalidImage:
        raise
    # A boundary: decoders raise whatever their parsing runs into, and it costs this image alone.
    except Exception:
        raise InvalidImage(
            f"{param}: the image file is damaged or incomplete.", param=param
        ) from None


def _too_many_pixels(param: str, max_pixels: int) -> InvalidImage:
    return InvalidImage(f"{param}: the image has more than {max_pixels} pixels.", param=param)

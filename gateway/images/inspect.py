"""Is this a whole image, of a known format, within bounds? Judged header first, then decoded."""

from __future__ import annotations

import io
import warnings
from hashlib import sha256

from PIL import Image, UnidentifiedImageError

from gateway.images.jpeg_scans import MAX_SCANS, has_too_many_scans
from gateway.images.sources import InvalidImage
from shared.messages import ImageInfo

FORMATS = {"PNG": "image/png", "JPEG": "image/jpeg", "WEBP": "image/webp", "GIF": "image/gif"}

# A phone's JPEG with a second picture behind the first; the first one counts.
ALIASES = {"MPO": "JPEG"}


def set_pillow_limits(max_pixels: int) -> None:
    """Make Pillow itself refuse, for this process, what we would not decode."""
    Image.MAX_IMAGE_PIXELS = max_pixels
    warnings.filterwarnings("error", category=Image.DecompressionBombWarning)


def inspect(data: bytes, param: str, max_pixels: int) -> ImageInfo:
    """Decode the image once, to be sure of it, and describe it.

    Takes up to 4 bytes of memory a pixel and belongs off the event loop.

    Raises:
        InvalidImage: unknown format, too many pixels, or the file is damaged or cut off.
    """
    try:
        with Image.open(io.BytesIO(data), formats=tuple(FORMATS)) as image:
            width, height = image.size
            if width * height > max_pixels:
                raise _too_many_pixels(param, max_pixels)
            media_type = FORMATS[ALIASES.get(image.format or "", image.format or "")]
            if media_type == "image/jpeg" and has_too_many_scans(data):
                raise InvalidImage(
                    f"{param}: the JPEG has more than {MAX_SCANS} scans.", param=param
                )
            image.load()
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise _too_many_pixels(param, max_pixels) from None
    except UnidentifiedImageError:
        raise InvalidImage(
            f"{param}: this is not a PNG, JPEG, WebP or GIF image.", param=param
        ) from None
    except MemoryError:
        raise InvalidImage(f"{param}: the image takes too much memory.", param=param) from None
    except InvalidImage:
        raise
    # A boundary: decoders raise whatever their parsing runs into, and it costs this image alone.
    except Exception:
        raise InvalidImage(
            f"{param}: the image file is damaged or incomplete.", param=param
        ) from None
    return ImageInfo(
        sha256=sha256(data).hexdigest(), media_type=media_type, width_px=width, height_px=height
    )


def _too_many_pixels(param: str, max_pixels: int) -> InvalidImage:
    return InvalidImage(f"{param}: the image has more than {max_pixels} pixels.", param=param)

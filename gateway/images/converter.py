"""A process that turns one file into pictures that everybody reads, and ends.

Run as a program by `conversion.py`, by its path: it imports nothing of this project, and of others
only what the file needs. The decoders are large C and C++ libraries, and the file is a stranger's:
what breaks here breaks this process, which has no secrets, no environment, no files to write and
little time and memory.

Spoken over its standard input and output, numbers of 8 bytes, big end first:

    in   how long the file is, the file
    out  one line of JSON: {"sizes": [[width, height], ...]} or {"refused": why}
    in   one byte, once there is memory for the pixels
    out  for each picture how long it is, and it, PNG or JPEG; 0 where it would be too long
"""

from __future__ import annotations

import io
import json
import os
import resource
import sys
from collections.abc import Callable
from typing import Any

from PIL import Image, ImageOps

PDF_SCALE = 2.0
"""144 pixels an inch: small print can be read."""
MAX_PAGE_PIXELS = 2_100_000
"""Of a PDF's page: a little more than A4 and US Letter take at that scale."""
JPEG_QUALITY = 95
OPENING_BYTES = 512 << 20
KEPT_MODES = frozenset({"1", "L", "LA", "RGB", "RGBA", "I;16"})
LOSSY_KINDS = frozenset({"HEIF", "AVIF"})

Draw = Callable[[], Image.Image]


class Refused(Exception):
    """Says why, in one word that `conversion.py` knows."""


def main() -> None:
    limits = json.loads(sys.argv[1])
    pipe_in, pipe_out = sys.stdin.buffer, sys.stdout.buffer
    open_file = open_pdf if limits["kind"] == "PDF" else opener_of(limits["kind"])
    _bound(limits["cpu_s"])
    _bound_memory(OPENING_BYTES)
    data = pipe_in.read(int.from_bytes(pipe_in.read(8), "big"))
    try:
        pages = open_file(data, limits["max_pages"])
        sizes = [size for size, _ in pages]
        if any(width * height > limits["max_pixels"] for width, height in sizes):
            raise Refused("pixels")
    except Refused as refused:
        pipe_out.write(json.dumps({"refused": str(refused)}).encode() + b"\n")
        return
    pipe_out.write(json.dumps({"sizes": sizes}).encode() + b"\n")
    pipe_out.flush()
    if not pipe_in.read(1):
        return
    _bound_memory(OPENING_BYTES + limits["bytes_per_pixel"] * max(w * h for w, h in sizes))
    for _, draw in pages:
        picture = encoded(draw(), limits["kind"] in LOSSY_KINDS, limits["max_bytes"])
        if len(picture) > limits["max_bytes"]:
            picture = b""
        pipe_out.write(len(picture).to_bytes(8, "big") + picture)
        pipe_out.flush()


def opener_of(kind: str) -> Callable[[bytes, int], list[tuple[tuple[int, int], Draw]]]:
    """Return what opens a file of one picture, or takes the first of several."""
    Image.MAX_IMAGE_PIXELS = None  # judged by us, with words of our own
    if kind == "HEIF":
        import pi_heif

        pi_heif.options.DECODE_THREADS = 1
        pi_heif.register_heif_opener(thumbnails=False)

    def open_picture(data: bytes, max_pages: int) -> list[tuple[tuple[int, int], Draw]]:
        image = Image.open(io.BytesIO(data), formats=(kind,))
        return [(image.size, lambda: image)]

    return open_picture


def open_pdf(data: bytes, max_pages: int) -> list[tuple[tuple[int, int], Draw]]:
    import pypdfium2

    try:
        document = pypdfium2.PdfDocument(data)
    except pypdfium2.PdfiumError as error:
        raise Refused("password" if "assword" in str(error) else "damaged") from None
    if len(document) > max_pages:
        raise Refused("pages")
    if len(document) == 0:
        raise Refused("damaged")
    if document.get_formtype():
        document.init_forms()  # else what was filled in is not drawn
    return [_page(document, number) for number in range(len(document))]


def _page(document: Any, number: int) -> tuple[tuple[int, int], Draw]:
    width, height = document.get_page_size(number)
    if not (0 < width < 1e6 and 0 < height < 1e6):
        raise Refused("damaged")
    scale = min(PDF_SCALE, (MAX_PAGE_PIXELS / (width * height)) ** 0.5)
    # As pypdfium2 rounds it.
    size = (-int(-width * scale // 1), -int(-height * scale // 1))

    def draw() -> Image.Image:
        page = document[number]
        try:
            picture: Image.Image = page.render(scale=scale).to_pil()
            return picture
        finally:
            page.close()

    return size, draw


def encoded(image: Image.Image, lossy: bool, max_bytes: int) -> bytes:
    """Return the picture upright, without metadata: as JPEG where it was lossy before, or where
    PNG is larger than `max_bytes`."""
    image = ImageOps.exif_transpose(image)
    if image.mode not in KEPT_MODES:
        image = image.convert("RGBA" if image.has_transparency_data else "RGB")
    if not (lossy and image.mode == "RGB"):
        picture = _saved(image, "PNG", compress_level=1)
        if len(picture) <= max_bytes:
            return picture
    if image.mode in ("LA", "RGBA"):
        layer = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer)
    return _saved(image.convert("RGB"), "JPEG", quality=JPEG_QUALITY, subsampling=0)


def _saved(image: Image.Image, image_format: str, **options: Any) -> bytes:
    file = io.BytesIO()
    for name in ("exif", "icc_profile", "xmp", "transparency"):
        image.info.pop(name, None)
    image.save(file, image_format, **options)
    return file.getvalue()


def _bound(cpu_s: int) -> None:
    """Give up what decoding needs not; what is imported already stays open."""
    os.nice(5)
    for what, most in (
        (resource.RLIMIT_CPU, cpu_s),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_NOFILE, 16),
    ):
        most = _at_most(what, most)
        resource.setrlimit(what, (most, most))


def _at_most(what: int, most: int) -> int:
    """The lower one of a limit and the system's own, which cannot be raised."""
    hard = resource.getrlimit(what)[1]
    return most if hard == resource.RLIM_INFINITY else min(most, hard)


def _bound_memory(more_bytes: int) -> None:
    """Bound what this process may come to take beyond what it has; macOS knows no such bound."""
    if sys.platform == "linux":
        with open("/proc/self/statm") as file:
            pages = int(file.read().split()[0])
        most = pages * os.sysconf("SC_PAGESIZE") + more_bytes
        hard = resource.getrlimit(resource.RLIMIT_AS)[1]
        resource.setrlimit(resource.RLIMIT_AS, (_at_most(resource.RLIMIT_AS, most), hard))


if __name__ == "__main__":
    main()

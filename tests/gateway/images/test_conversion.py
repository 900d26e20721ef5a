"""Files that not everybody reads become pictures, in a process that may break."""

from __future__ import annotations

import asyncio
import io
import os
from pathlib import Path

import pytest
from PIL import Image, ImageChops, ImageStat

from gateway.images import conversion
from gateway.images.conversion import ConversionLimits, converting
from gateway.images.kinds import Kind, kind_of
from gateway.images.sources import InvalidImage
from tests.gateway.images.pictures import drawn, noise, pages
from tests.waiting import await_condition

pytestmark = pytest.mark.process

LIMITS = ConversionLimits(max_bytes=1_000_000, max_pixels=100_000, max_pages=3)


async def converted(
    data: bytes, kind: Kind | None = None, limits: ConversionLimits = LIMITS
) -> list[Image.Image]:
    kind = kind or kind_of(data)
    assert kind is not None
    async with converting(data, kind, limits, "p") as opened:
        files = [picture async for picture in opened.pictures()]
    found: list[Image.Image] = [Image.open(io.BytesIO(file)) for file in files]
    assert [image.size for image in found] == opened.sizes
    return found


def gradient() -> Image.Image:
    return Image.merge("RGB", [Image.linear_gradient("L").resize((120, 80))] * 3)


@pytest.mark.parametrize(
    ("image_format", "kind", "becomes"),
    [
        ("HEIF", "HEIF", "JPEG"),
        ("AVIF", "AVIF", "JPEG"),
        ("TIFF", "TIFF", "PNG"),
        ("BMP", "BMP", "PNG"),
    ],
)
async def test_the_picture_is_the_same(image_format: str, kind: Kind, becomes: str) -> None:
    drawn_picture = gradient()
    buffer = io.BytesIO()
    drawn_picture.save(buffer, image_format)
    assert kind_of(buffer.getvalue()) == kind
    (image,) = await converted(buffer.getvalue())
    assert image.format == becomes
    difference = ImageChops.difference(image.convert("RGB"), drawn_picture)
    assert max(ImageStat.Stat(difference).mean) < 2


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "I;16", "CMYK"])
async def test_tiffs_of_all_modes(mode: str) -> None:
    (image,) = await converted(drawn("TIFF", (30, 20), mode))
    assert image.size == (30, 20)
    assert image.mode == {"P": "RGB", "CMYK": "RGB", "I;16": "I;16"}.get(mode, mode)


async def test_the_first_page_of_a_tiff_and_its_orientation() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    buffer = io.BytesIO()
    first = Image.new("RGB", (30, 20), "red")
    first.save(buffer, "TIFF", save_all=True, append_images=[Image.new("RGB", (9, 9))], exif=exif)
    data = buffer.getvalue()
    async with converting(data, "TIFF", LIMITS, "p") as opened:
        (file,) = [picture async for picture in opened.pictures()]
    image = Image.open(io.BytesIO(file))
    assert image.size == (20, 30)
    assert image.getpixel((0, 0)) == (255, 0, 0)


async def test_pages_of_a_pdf_in_their_order() -> None:
    found = await converted(pages([(100, 50), (60, 70)]))
    assert [image.size for image in found] == [(200, 100), (120, 140)]
    assert all(image.format == "PNG" for image in found)


async def test_a_poster_is_drawn_smaller() -> None:
    limits = ConversionLimits(10_000_000, 50_000_000, 3)
    (image,) = await converted(pages([(3000, 2000)]), limits=limits)
    assert 2_000_000 < image.width * image.height <= 2_110_000


async def test_what_is_too_large_as_png_becomes_jpeg() -> None:
    limits = ConversionLimits(62_000, 100_000, 1)
    (image,) = await converted(noise("TIFF", (150, 150)), limits=limits)
    assert image.format == "JPEG"


REFUSED: dict[str, tuple[bytes, Kind, str]] = {
    "pixels": (drawn("BMP", (400, 300)), "BMP", "more than 100000 pixels"),
    "pages": (pages([(50, 50)] * 4), "PDF", "more than 3 pages"),
    "page pixels": (pages([(400, 300)]), "PDF", "more than 100000 pixels"),
    "half a HEIF": (noise("HEIF")[:900], "HEIF", "damaged"),
    "half an AVIF": (noise("AVIF")[:900], "AVIF", "damaged"),
    "half a TIFF": (noise("TIFF")[:5000], "TIFF", "damaged"),
    "half a BMP": (noise("BMP")[:5000], "BMP", "damaged"),
    "half a PDF": (pages([(50, 50)])[:300], "PDF", "damaged"),
    "a PDF's head": (b"%PDF-1.7\n", "PDF", "damaged"),
    "bytes": (noise("TIFF", (300, 300)), "TIFF", "larger than 40000 bytes"),
}


@pytest.mark.parametrize("name", REFUSED)
async def test_bad_files_are_refused_by_name(name: str) -> None:
    data, kind, words = REFUSED[name]
    limits = ConversionLimits(40_000, 100_000, 3) if name == "bytes" else LIMITS
    with pytest.raises(InvalidImage, match=words) as caught:
        await converted(data, kind, limits)
    assert caught.value.param == "p"
    assert caught.value.message.startswith("p: ")


# What the process may do once a file has taken it over: it reads the file, and then ...
TAKEN_OVER = {
    "dies": "os.kill(os.getpid(), 11)",
    "ends": "pass",
    "says what is no JSON": "say(b'no\\n')",
    "says another JSON": "say(b'[1]\\n')",
    "never ends its line": "say(b'x' * 5_000_000)",
    "promises too many pages": "say(b'{\"sizes\": [[9, 9], [9, 9], [9, 9], [9, 9]]}\\n')",
    "promises no page": "say(b'{\"sizes\": []}\\n')",
    "promises too large a page": "say(b'{\"sizes\": [[1000000, 1000000]]}\\n')",
    "promises a page of no width": "say(b'{\"sizes\": [[0, 9]]}\\n')",
    "sends too long a picture": "say(b'{\"sizes\": [[9, 9]]}\\n' + bytes([0] * 4 + [255] * 4))",
    "stands still": "time.sleep(60)",
}


def program(folder: Path, does: str) -> Path:
    path = folder / "program.py"
    path.write_text(
        "import os, sys, time\n"
        "def say(what):\n    sys.stdout.buffer.write(what)\n    sys.stdout.buffer.flush()\n"
        "sys.stdin.buffer.read(int.from_bytes(sys.stdin.buffer.read(8), 'big'))\n" + does
    )
    return path


@pytest.mark.parametrize("name", TAKEN_OVER)
async def test_a_process_that_was_taken_over_costs_its_file(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(conversion, "PROGRAM", program(tmp_path, TAKEN_OVER[name]))
    if name == "stands still":
        monkeypatch.setattr(conversion, "TIMEOUT_S", 0.3)
    with pytest.raises(InvalidImage, match="too long" if name == "stands still" else "damaged"):
        await converted(b"x" * 3_000_000, "PDF")


async def test_limits_that_are_lower_already_are_no_obstacle(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who may not raise them gets ValueError from `setrlimit`; root, who may, does not try."""
    path = tmp_path / "limited.py"
    path.write_text(
        "import resource, runpy\n"
        "hard = {resource.RLIMIT_AS: 7 << 30}\n"
        "def setrlimit(what, pair):\n"
        "    if not 0 <= pair[0] <= pair[1] <= hard.get(what, 10): raise ValueError(pair)\n"
        "resource.getrlimit = lambda what: (0, hard.get(what, 10))\n"
        "resource.setrlimit = setrlimit\n"
        f"runpy.run_path({str(conversion.PROGRAM)!r}, run_name='__main__')\n"
    )
    monkeypatch.setattr(conversion, "PROGRAM", path)
    file = io.BytesIO()
    gradient().save(file, "TIFF")
    assert len(await converted(file.getvalue())) == 1


async def test_a_conversion_that_is_given_up_leaves_no_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = tmp_path / "pid"
    does = f"open({str(told)!r}, 'w').write(str(os.getpid()))\ntime.sleep(60)"
    monkeypatch.setattr(conversion, "PROGRAM", program(tmp_path, does))
    converted_one = asyncio.create_task(converted(b"x", "PDF"))
    await asyncio.to_thread(
        await_condition, lambda: told.exists() and told.read_text() != "", "the process runs"
    )
    converted_one.cancel()
    with pytest.raises(asyncio.CancelledError):
        await converted_one
    with pytest.raises(ProcessLookupError):
        os.kill(int(told.read_text()), 0)


async def test_the_process_knows_nothing_of_its_gateway(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GATEWAY_API_KEY", "secret")
    told = tmp_path / "environment"
    does = f"open({str(told)!r}, 'w').write(repr((dict(os.environ), os.getcwd())))"
    monkeypatch.setattr(conversion, "PROGRAM", program(tmp_path, does))
    with pytest.raises(InvalidImage):
        await converted(b"x", "PDF")
    assert "secret" not in told.read_text()
    assert str(Path.cwd()) not in told.read_text()

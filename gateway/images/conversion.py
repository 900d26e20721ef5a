"""Files that not everybody reads, turned into PNG or JPEG by a process of their own, one a file.

`converter.py` is that process. Nothing that it says is believed beyond what is checked here: it may
have been taken over by the file that it reads.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import msgspec

from gateway.images.kinds import Kind
from gateway.images.sources import InvalidImage

CONVERTED: frozenset[Kind] = frozenset({"HEIF", "AVIF", "TIFF", "BMP", "PDF"})

CPU_S = 20
TIMEOUT_S = 60.0
"""Of opening a file, and of drawing each picture, by the clock: a machine may be busy."""
BYTES_PER_PIXEL = 16
"""Memory of drawing, turning and encoding a picture; one at a time, of several pages."""
READ_BYTES = 1 << 20

PROGRAM = Path(__file__).with_name("converter.py")

WORDS = {
    "damaged": "the file is damaged or incomplete",
    "password": "the PDF is locked with a password",
}


@dataclass(frozen=True)
class ConversionLimits:
    """Of one file."""

    max_bytes: int
    """Of each picture."""
    max_pixels: int
    """Of each picture."""
    max_pages: int
    """Of a PDF."""


class Untrue(Exception):
    """The process says what it cannot say in truth."""


class Said(msgspec.Struct):
    """The process's one line; `refused` or `sizes`."""

    refused: str = ""
    sizes: list[tuple[int, int]] = []


class Conversion:
    """A file that is open in its process."""

    def __init__(
        self, process: Process, sizes: list[tuple[int, int]], max_bytes: int, param: str
    ) -> None:
        self.sizes = sizes
        """Width and height of each picture, in pixels, as it will be drawn."""
        self._process = process
        self._max_bytes = max_bytes
        self._param = param

    @property
    def decoding_bytes(self) -> int:
        return BYTES_PER_PIXEL * max(width * height for width, height in self.sizes)

    async def pictures(self) -> AsyncIterator[bytes]:
        """Draw one after the other, to be taken within the block of `converting`."""
        assert self._process.stdin is not None
        self._process.stdin.write(b"\n")
        for _ in self.sizes:
            async with asyncio.timeout(TIMEOUT_S):
                picture = await self._read()
            yield picture

    async def _read(self) -> bytes:
        assert self._process.stdout is not None
        length = int.from_bytes(await self._process.stdout.readexactly(8), "big")
        if length == 0:
            raise InvalidImage(
                f"{self._param}: the image is larger than {self._max_bytes} bytes as JPEG.",
                param=self._param,
            )
        if length > self._max_bytes:
            raise Untrue
        return await self._process.stdout.readexactly(length)


@asynccontextmanager
async def converting(
    data: bytes, kind: Kind, limits: ConversionLimits, param: str
) -> AsyncIterator[Conversion]:
    """Open a file in a process of its own, which ends with the block.

    Raises:
        InvalidImage: the file is damaged, locked, or beyond a limit, or took too long or too much
            memory; also for what the block runs into.
    """
    process = await _started(kind, limits)
    try:
        async with asyncio.timeout(TIMEOUT_S):
            sizes = await _opened(process, data, limits, param)
        yield Conversion(process, sizes, limits.max_bytes, param)
    except (EOFError, ConnectionError, asyncio.LimitOverrunError, msgspec.DecodeError, Untrue):
        raise InvalidImage(f"{param}: {WORDS['damaged']}.", param=param) from None
    except TimeoutError:
        raise InvalidImage(f"{param}: reading the file took too long.", param=param) from None
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


async def _started(kind: Kind, limits: ConversionLimits) -> Process:
    asked = {
        "kind": kind,
        "max_bytes": limits.max_bytes,
        "max_pixels": limits.max_pixels,
        "max_pages": limits.max_pages,
        "bytes_per_pixel": BYTES_PER_PIXEL,
        "cpu_s": CPU_S,
    }
    # Isolated from the folder it is started in and from whatever the environment holds.
    command = (sys.executable, "-I", "-B", str(PROGRAM), json.dumps(asked))
    return await asyncio.create_subprocess_exec(
        *command,
        stdin=PIPE,
        stdout=PIPE,
        stderr=DEVNULL,
        env={},
        cwd="/",
        limit=READ_BYTES,
    )


async def _opened(
    process: Process, data: bytes, limits: ConversionLimits, param: str
) -> list[tuple[int, int]]:
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(len(data).to_bytes(8, "big"))
    process.stdin.write(data)
    await process.stdin.drain()
    said = msgspec.json.decode(await process.stdout.readuntil(b"\n"), type=Said)
    if said.refused:
        words = WORDS | {
            "pixels": f"the image has more than {limits.max_pixels} pixels",
            "pages": f"the PDF has more than {limits.max_pages} pages",
        }
        why = words.get(said.refused, WORDS["damaged"])
        raise InvalidImage(f"{param}: {why}.", param=param)
    if not 0 < len(said.sizes) <= limits.max_pages:
        raise Untrue
    if not all(w > 0 and h > 0 and w * h <= limits.max_pixels for w, h in said.sizes):
        raise Untrue
    return said.sizes

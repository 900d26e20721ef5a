"""From image sources to described bytes: off the event loop, within bounds, in turns by request."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol, TypeVar

from gateway.errors import ApiError
from gateway.generation import ImageSource
from gateway.images.conversion import CONVERTED, ConversionLimits, converting
from gateway.images.data_urls import decode_data_url
from gateway.images.fetch import Fetcher
from gateway.images.inspect import (
    Header,
    LoadedImage,
    checked,
    decode,
    not_a_picture,
    read_header,
    set_pillow_limits,
)
from gateway.images.kinds import Kind, kind_of
from gateway.images.sources import InvalidImage, is_web_url
from gateway.images.turns import Flow, Turns
from gateway.memory import Holding, MemoryBudget

DECODERS = 2
"""Images decoded at once."""

CONVERTERS = 2
"""Files converted at once."""

OPENING_PIXELS = 1_000_000
"""What opening a file counts beside decoding so many pixels: it unpacks texts and profiles."""

T = TypeVar("T")


class ImageTimes(Protocol):
    """Told how long each image took, whether or not it went well."""

    def image_fetched(self, seconds: float) -> None: ...

    def image_decoded(self, seconds: float) -> None: ...


@dataclass(frozen=True)
class ImageLimits:
    """Of one file: `max_bytes` and `max_pixels`; of all images of a request together:
    `max_request_pixels` and `max_images`, a PDF's pages among them."""

    max_bytes: int
    max_pixels: int
    max_request_pixels: int
    max_images: int


@dataclass
class RequestImages:
    """The images of one request while they are loaded."""

    memory: Holding
    fetching: Flow = field(default_factory=Flow)
    decoding: Flow = field(default_factory=Flow)
    converting: Flow = field(default_factory=Flow)
    pixels: int = 0
    images: int = 0
    """Those that are named, and the pages of those that turn out to be several."""


class ImageLoader:
    """Loads the images of requests.

    Args:
        fetcher: gets what http(s) URLs name; closed together with the loader.
    """

    def __init__(
        self, fetcher: Fetcher, limits: ImageLimits, memory: MemoryBudget, times: ImageTimes
    ) -> None:
        set_pillow_limits(limits.max_pixels)
        self._fetcher = fetcher
        self._limits = limits
        self._memory = memory
        self._times = times
        self._turns = Turns(DECODERS)
        self._conversions = Turns(CONVERTERS)
        self._threads = ThreadPoolExecutor(DECODERS, thread_name_prefix="image")
        self._decoding: set[asyncio.Future[None]] = set()

    async def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)
        await self._fetcher.close()

    async def load(
        self, sources: Sequence[ImageSource], memory: Holding
    ) -> list[list[LoadedImage]]:
        """Return the images of each source, in order; the first failure ends the others.

        Args:
            memory: what the images take is counted there, in place of the data URLs' texts.

        Raises:
            InvalidImage: one of them cannot be had or used; `param` names it.
            BodyTooLarge, QueueFull: they take too much memory; `param` names the one.
        """
        try:
            return await self._load_all(sources, RequestImages(memory, images=len(sources)))
        except ApiError as error:
            # Its traceback would hold the images, in a circle that only the collector finds.
            raise error.with_traceback(None) from None

    async def _load_all(
        self, sources: Sequence[ImageSource], request: RequestImages
    ) -> list[list[LoadedImage]]:
        if len(sources) == 1:
            return [await self._load(sources[0], request)]
        tasks = [asyncio.create_task(self._load(source, request)) for source in sources]
        try:
            return await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()

    async def _load(self, source: ImageSource, request: RequestImages) -> list[LoadedImage]:
        fetched = await self._fetch(source, request) if is_web_url(source.url) else None
        began = time.monotonic()
        try:
            return await self._inspect(source, fetched, request)
        finally:
            self._times.image_decoded(time.monotonic() - began)

    async def _fetch(self, source: ImageSource, request: RequestImages) -> bytes:
        began = time.monotonic()
        try:
            return await self._fetcher.fetch(source, request.fetching, request.memory)
        finally:
            self._times.image_fetched(time.monotonic() - began)

    async def _inspect(
        self, source: ImageSource, fetched: bytes | None, request: RequestImages
    ) -> list[LoadedImage]:
        async with self._turns.turn(request.decoding, OPENING_PIXELS):
            data, kind, header = await self._on_thread(lambda: self._open(source, fetched))
        if fetched is None:
            # Less than the text, which was counted with the body: this always fits.
            request.memory.give_back(len(source.url))
            request.memory.take(len(data), source.param)
        source.url = ""
        if header is None:
            return await self._convert(data, kind, source.param, request)
        self._count(request, source.param, header.pixels)
        async with self._turns.turn(request.decoding, header.pixels):
            return [await self._decode(data, header, source.param, request.memory)]

    def _open(
        self, source: ImageSource, fetched: bytes | None
    ) -> tuple[bytes, Kind, Header | None]:
        """Return the file and what it says of its picture; None of one that is to be converted."""
        limits = self._limits
        data = decode_data_url(source, limits.max_bytes) if fetched is None else fetched
        kind = kind_of(data)
        if kind is None:
            raise not_a_picture(source.param)
        if kind in CONVERTED:
            return data, kind, None
        return data, kind, read_header(data, source.param, limits.max_pixels)

    def _count(self, request: RequestImages, param: str, pixels: int, more_images: int = 0) -> None:
        request.pixels += pixels
        request.images += more_images
        most = self._limits.max_request_pixels
        if request.pixels > most:
            raise InvalidImage(
                f"{param}: the images of the request have more than {most} pixels together.",
                param=param,
            )
        most = self._limits.max_images
        if request.images > most:
            raise InvalidImage(
                f"{param}: with the PDF's pages the request has more than {most} images.",
                param=param,
            )

    async def _decode(
        self, data: bytes, header: Header, param: str, memory: Holding
    ) -> LoadedImage:
        async with self._room_for_pixels(header.decoding_bytes, param, memory):
            max_pixels = self._limits.max_pixels
            return await self._on_thread(lambda: decode(data, header, param, max_pixels))

    async def _convert(
        self, data: bytes, kind: Kind, param: str, request: RequestImages
    ) -> list[LoadedImage]:
        of_request = self._limits
        limits = ConversionLimits(
            of_request.max_bytes, of_request.max_pixels, max_pages=of_request.max_images
        )
        images: list[LoadedImage] = []
        async with (
            self._conversions.turn(request.converting, OPENING_PIXELS),
            converting(data, kind, limits, param) as opened,
        ):
            pixels = sum(width * height for width, height in opened.sizes)
            self._count(request, param, pixels, len(opened.sizes) - 1)
            # The process holds the file, too.
            size_bytes = opened.decoding_bytes + len(data)
            async with self._room_for_pixels(size_bytes, param, request.memory):
                async for picture in opened.pictures():
                    request.memory.take(len(picture), param)
                    image = partial(checked, picture, param, limits.max_pixels)
                    images.append(await self._on_thread(image))
        request.memory.give_back(len(data))
        return images

    @asynccontextmanager
    async def _room_for_pixels(
        self, size_bytes: int, param: str, memory: Holding
    ) -> AsyncIterator[None]:
        """Wait until the pixels fit, or are alone, and hold their memory for the block."""
        memory.check(size_bytes, param)
        while self._decoding and not self._memory.fits(size_bytes):
            await asyncio.wait(self._decoding, return_when=asyncio.FIRST_COMPLETED)
        decoded = asyncio.get_running_loop().create_future()
        self._decoding.add(decoded)
        try:
            # Held apart from the request, which may be over before the thread is.
            with self._memory.open() as pixels:
                pixels.take(size_bytes, param)
                yield
        finally:
            self._decoding.remove(decoded)
            decoded.set_result(None)

    async def _on_thread(self, work: Callable[[], T]) -> T:
        """A thread cannot be cancelled: what it uses stays taken until it is done."""
        working = asyncio.get_running_loop().run_in_executor(self._threads, work)
        try:
            return await asyncio.shield(working)
        except asyncio.CancelledError:
            await asyncio.gather(working, return_exceptions=True)
            raise

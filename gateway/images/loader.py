"""From image sources to described bytes: off the event loop, within bounds, in turns by request."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Protocol, TypeVar

from gateway.errors import ApiError
from gateway.generation import ImageSource
from gateway.images.conversion import CONVERTED, Conversion, ConversionLimits, converting
from gateway.images.data_urls import decode_data_url
from gateway.images.fetch import Fetcher, Fetching
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
from gateway.images.room import turn_with_room
from gateway.images.sources import InvalidImage, is_web_url
from gateway.images.turns import Flow, Turns
from gateway.memory import Holding

DECODERS = 2
"""Images decoded at once."""

CONVERTERS = 2
"""Files converted at once."""

PIXELS_A_SECOND = 20_000_000
"""What time counts as, since a file may ask for much of it with few pixels."""

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
    images: int
    """Those that are named, and the pages of those that turn out to be several."""
    pixels: int = 0

    def __post_init__(self) -> None:
        client = self.memory.client
        self.fetching = Fetching(client)
        self.decoding, self.converting = Flow(client), Flow(client)


class ImageLoader:
    """Loads the images of requests.

    Args:
        fetcher: gets what http(s) URLs name; closed together with the loader.
    """

    def __init__(self, fetcher: Fetcher, limits: ImageLimits, times: ImageTimes) -> None:
        set_pillow_limits(limits.max_pixels)
        self._fetcher = fetcher
        self._limits = limits
        self._times = times
        self._turns = Turns(DECODERS)
        self._conversions = Turns(CONVERTERS)
        self._threads = ThreadPoolExecutor(DECODERS, thread_name_prefix="image")

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
            opening = partial(self._open, source, fetched)
            data, kind, header = await self._timed(opening, request.decoding, OPENING_PIXELS)
        if fetched is None:
            # Of the text, which was counted with the body.
            request.memory.give_back(len(source.url) - len(data))
        source.url = ""
        if header is None:
            return await self._convert(data, kind, source.param, request)
        self._count(request, source.param, header.pixels)
        turn = turn_with_room(
            self._turns,
            request.decoding,
            header.pixels,
            request.memory,
            header.decoding_bytes,
            source.param,
        )
        async with turn:
            work = partial(decode, data, header, source.param, self._limits.max_pixels)
            return [await self._timed(work, request.decoding, header.pixels)]

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

    async def _convert(
        self, data: bytes, kind: Kind, param: str, request: RequestImages
    ) -> list[LoadedImage]:
        of_request = self._limits
        limits = ConversionLimits(
            of_request.max_bytes, of_request.max_pixels, max_pages=of_request.max_images
        )
        counted = False
        while True:
            async with (
                self._timed_conversion(request.converting),
                converting(data, kind, limits, param) as opened,
            ):
                if not counted:
                    pixels = sum(width * height for width, height in opened.sizes)
                    self._count(request, param, pixels, len(opened.sizes) - 1)
                    counted = True
                # The process holds the file, too.
                size_bytes = opened.decoding_bytes + len(data)
                request.memory.check(size_bytes, param)
                with request.memory.beside() as room:
                    if room.hold_if_free(size_bytes):
                        return await self._pictures(opened, len(data), param, request)
            # Opened anew once there is room: no process waits for memory.
            await request.memory.until_room(size_bytes, param)

    @asynccontextmanager
    async def _timed_conversion(self, flow: Flow) -> AsyncIterator[None]:
        """A turn that costs what it takes."""
        async with self._conversions.turn(flow, OPENING_PIXELS):
            began = time.monotonic()
            try:
                yield
            finally:
                cost = (time.monotonic() - began) * PIXELS_A_SECOND
                self._conversions.charge(flow, cost)

    async def _pictures(
        self, opened: Conversion, file_bytes: int, param: str, request: RequestImages
    ) -> list[LoadedImage]:
        """Return what a file was turned into, in place of it."""
        images: list[LoadedImage] = []
        async for picture in opened.pictures():
            request.memory.take(len(picture), param)
            work = partial(checked, picture, param, self._limits.max_pixels)
            images.append(await self._on_thread(work))
        request.memory.give_back(file_bytes)
        return images

    async def _timed(self, work: Callable[[], T], flow: Flow, cost: float) -> T:
        """Do it within a turn; what it takes beyond that turn's cost is charged.

        Args:
            cost: of the turn.
        """
        began = time.monotonic()
        try:
            return await self._on_thread(work)
        finally:
            taken = (time.monotonic() - began) * PIXELS_A_SECOND
            self._turns.charge(flow, max(0.0, taken - cost))

    async def _on_thread(self, work: Callable[[], T]) -> T:
        """A thread cannot be cancelled: what it uses stays taken until it is done."""
        working = asyncio.get_running_loop().run_in_executor(self._threads, work)
        try:
            return await asyncio.shield(working)
        except asyncio.CancelledError:
            await asyncio.gather(working, return_exceptions=True)
            raise

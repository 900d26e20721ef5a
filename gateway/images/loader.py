"""From image sources to described bytes, off the event loop and within bounds."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol

from gateway.generation import ImageSource
from gateway.images.data_urls import decode_data_url
from gateway.images.fetch import Fetcher
from gateway.images.inspect import inspect, set_pillow_limits
from gateway.images.sources import is_data_url
from shared.messages import ImageInfo

DECODERS = 2
"""Images decoded at once: bounds the memory that decoding may take."""

LoadedImage = tuple[ImageInfo, bytes]


class ImageTimes(Protocol):
    """Told how long each image took, whether or not it went well."""

    def image_fetched(self, seconds: float) -> None: ...

    def image_decoded(self, seconds: float) -> None: ...


class ImageLoader:
    """Loads the images of requests.

    Args:
        fetcher: gets what http(s) URLs name; closed together with the loader.
        max_bytes: largest file.
        max_pixels: largest width times height.
    """

    def __init__(
        self,
        fetcher: Fetcher,
        max_bytes: int,
        max_pixels: int,
        times: ImageTimes,
    ) -> None:
        set_pillow_limits(max_pixels)
        self._fetcher = fetcher
        self._max_bytes = max_bytes
        self._max_pixels = max_pixels
        self._times = times
        self._decoders = ThreadPoolExecutor(DECODERS, thread_name_prefix="image")

    async def close(self) -> None:
        self._decoders.shutdown(wait=False, cancel_futures=True)
        await self._fetcher.close()

    async def load(self, sources: Sequence[ImageSource]) -> list[LoadedImage]:
        """Return all images in order; the first failure ends the others.

        Raises:
            InvalidImage: one of them cannot be had or used; `param` names it.
        """
        if len(sources) == 1:
            return [await self._load(sources[0])]
        tasks = [asyncio.create_task(self._load(source)) for source in sources]
        try:
            return await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()

    async def _load(self, source: ImageSource) -> LoadedImage:
        data = None if is_data_url(source.url) else await self._fetch(source)
        loop = asyncio.get_running_loop()
        began = time.monotonic()
        try:
            return await loop.run_in_executor(self._decoders, self._inspect, source, data)
        finally:
            self._times.image_decoded(time.monotonic() - began)

    async def _fetch(self, source: ImageSource) -> bytes:
        began = time.monotonic()
        try:
            return await self._fetcher.fetch(source)
        finally:
            self._times.image_fetched(time.monotonic() - began)

    def _inspect(self, source: ImageSource, data: bytes | None) -> LoadedImage:
        if data is None:
            data = decode_data_url(source, self._max_bytes)
        return inspect(data, source.param, self._max_pixels), data

"""`GET /`, the page's files below `/page/`, and `GET /v1/status/stream`, which feeds it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import APIRouter, FastAPI
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from gateway.errors import NotFound
from gateway.http.connection import UntilGone, connection_of
from gateway.http.sse import EventWriter
from gateway.page.files import PageFile, read_files
from gateway.page.live import LiveFeed, NoFigures
from gateway.settings import Settings
from gateway.status import Status


def page_routes(status: Status, settings: Settings) -> APIRouter:
    files, feed = read_files(), LiveFeed(status)

    @asynccontextmanager
    async def sampling(app: FastAPI) -> AsyncIterator[None]:
        sampler = asyncio.create_task(feed.run())
        yield
        sampler.cancel()

    router = APIRouter(include_in_schema=False, lifespan=sampling)

    @router.get("/", response_model=None)
    async def show_page(request: Request) -> Response:
        return _answer(request, files["index.html"])

    @router.get("/page/{path:path}", response_model=None)
    async def show_file(request: Request, path: str) -> Response:
        if path not in files:
            raise NotFound(f"The page has no file named {path!r}.")
        return _answer(request, files[path])

    @router.get("/v1/status/stream", response_model=None)
    async def stream_status() -> Response:
        return LiveStream(feed, settings)

    return router


def _answer(request: Request, file: PageFile) -> Response:
    if request.headers.get("if-none-match") == file.tag:
        return Response(status_code=304, headers=file.headers)
    return Response(file.content, headers=file.headers)


class LiveStream(Response):
    """One listener's stream of samples, until it leaves or there are none. The end tells it so:
    figures that stand still look as good as any."""

    def __init__(self, feed: LiveFeed, settings: Settings) -> None:
        super().__init__()
        self._feed = feed
        self._settings = settings

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        connection, task = connection_of(scope), asyncio.current_task()
        assert task is not None
        with self._feed.listening(), UntilGone(scope):
            connection.when_stopping(task.cancel)
            try:
                await self._follow(scope, send)
            finally:
                connection.when_stopping(None)

    async def _follow(self, scope: Scope, send: Send) -> None:
        opening = self._feed.history()  # before the head: what it raises is a status
        writer = EventWriter(
            scope,
            send,
            write_timeout_s=self._settings.write_timeout,
            keep_alive_s=self._settings.keep_alive_interval,
        )
        try:
            await writer.start()
            await writer.write(opening)
            while True:
                await writer.write(await writer.keep_alive_until(self._feed.next_sample))
        except NoFigures:
            await writer.write(b"", last=True)
        except asyncio.CancelledError:
            # The server stops (or the page is gone): the stream ends in order, it is not broken.
            await writer.write(b"", last=True)
            raise
        finally:
            writer.close()

"""Puts the HTTP side together. Everything it needs comes in as an argument."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from fastapi import FastAPI
from starlette.middleware.cors import CORSMiddleware
from starlette.routing import Route
from starlette.types import ASGIApp

from gateway.api.docs_page import docs_routes
from gateway.api.endpoint import dialect_routes, endpoints
from gateway.api.models import model_routes
from gateway.api.run import Runner
from gateway.api.status import status_routes
from gateway.api.workers import worker_routes
from gateway.generation import Dispatch
from gateway.http import error_body
from gateway.http.fast_path import FastPath
from gateway.http.keys import ApiKeys, Keys
from gateway.http.middleware import BodyBudget, Heads, HostNames, RequestIds
from gateway.http.paths import Paths
from gateway.images.fetch import Fetcher, FetchLimits
from gateway.images.loader import ImageLimits, ImageLoader, ImageTimes
from gateway.memory import MemoryBudget
from gateway.page.routes import page_routes
from gateway.process import FreedMemory
from gateway.settings import Settings
from gateway.status import Status
from shared.version import VERSION

log = logging.getLogger(__name__)

DESCRIPTION = """An OpenAI-compatible server for vision-language models.

Every parameter is honoured or refused by name; `/v1/capabilities` lists them."""


NAMES_OF_THE_HOST = ("localhost", "host.docker.internal", "host.containers.internal")
"""This machine as itself and its containers call it. No page from elsewhere can come by these: no
public name ends in `.internal`."""


async def _nothing() -> None:
    pass


def create_app(
    settings: Settings,
    dispatch: Dispatch,
    status: Status,
    image_times: ImageTimes,
    keys: Keys,
    on_stop: Callable[[], Awaitable[None]] = _nothing,
) -> ASGIApp:
    """Return the ASGI application.

    Args:
        image_times: told about each image that a request names.
        keys: what requests and orders are let in by.
        on_stop: called last when the application stops.
    """
    memory = MemoryBudget(settings.max_buffered_bytes, FreedMemory().freed)
    images = _image_loader(settings, image_times)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        yield
        await images.close()
        await on_stop()

    app = FastAPI(
        title="proxy-OAI-compat",
        description=DESCRIPTION,
        version=VERSION,
        lifespan=lifespan,
        # The stock pages load scripts from elsewhere; docs_page.py has ours.
        docs_url=None,
        redoc_url=None,
        # `Paths` has taken the slash away; a redirect would name a scheme that may be a proxy's.
        redirect_slashes=False,
    )
    error_body.install(app)
    by_path = endpoints(Runner(dispatch, images), settings)
    routers = (
        dialect_routes(by_path),
        model_routes(status, keys, settings.queue_timeout),
        status_routes(status),
        worker_routes(status, keys),
        docs_routes(app, status),
        page_routes(status, settings),
    )
    for router in routers:
        app.include_router(router)
    guarded = _in_middleware(FastPath(Heads(app), by_path), settings, keys, memory)
    paths = [
        route.path for router in routers for route in router.routes if isinstance(route, Route)
    ]
    return RequestIds(Paths(guarded, paths))


def _image_loader(settings: Settings, times: ImageTimes) -> ImageLoader:
    fetching = FetchLimits(
        max_bytes=settings.max_image_bytes,
        timeout_s=settings.fetch_timeout,
        concurrency=settings.fetch_concurrency,
        allow_private=settings.allow_private_image_hosts,
        hosts=settings.image_hosts,
    )
    limits = ImageLimits(
        max_bytes=settings.max_image_bytes,
        max_pixels=settings.max_image_pixels,
        max_request_pixels=settings.max_request_pixels,
        max_images=settings.max_images,
    )
    return ImageLoader(Fetcher(fetching), limits, times)


def _in_middleware(app: ASGIApp, settings: Settings, keys: Keys, memory: MemoryBudget) -> ASGIApp:
    """The last one is the outermost.

    They stand before FastAPI and not among its middleware, so that what takes the fast path does
    not pass FastAPI at all.
    """
    app = BodyBudget(app, memory, settings.queue_timeout)
    if keys.api:
        app = ApiKeys(app, keys)
    app = HostNames(app, _accepted_hosts(settings))
    if settings.cors_origin:
        app = CORSMiddleware(
            app,
            allow_origins=settings.cors_origin,
            allow_methods=["GET", "POST"],
            # Each SDK has headers of its own; it is the origin that is judged.
            allow_headers=["*"],
            expose_headers=["*"],
            # A page from the internet may reach this network if it may use the API.
            allow_private_network=True,
        )
    return app


def _accepted_hosts(settings: Settings) -> tuple[str, ...] | None:
    """Beyond loopback the server cannot know its names, so only the user's own list binds it."""
    if settings.allowed_host:
        return (*NAMES_OF_THE_HOST, *settings.allowed_host)
    return None if settings.beyond_loopback else NAMES_OF_THE_HOST

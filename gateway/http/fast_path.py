"""A straight way for the routes that carry the load: from the middleware to the endpoint.

FastAPI's way there (two exit stacks, two exception boundaries, a walk over all routes, the solving
of dependencies that a function of one `Request` does not have) took 45 % of the time of a request
whose tokens are there at once (docs/benchmarks.md). The routes are registered there all the same:
they are what `/openapi.json` describes and what answers other methods.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from gateway.errors import ApiError
from gateway.http.error_body import error_response

Endpoint = Callable[[Request], Awaitable[Response]]


class FastPath:
    """Stands between the middleware and FastAPI's router, with the same answers.

    Args:
        app: gets everything else.
        endpoints: by the path whose POST requests they answer; they read their bodies themselves.
    """

    def __init__(self, app: ASGIApp, endpoints: Mapping[str, Endpoint]) -> None:
        self.app = app
        self._endpoints = endpoints

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        endpoint = self._endpoints.get(scope.get("path", ""))
        if endpoint is None or scope["method"] != "POST":
            await self.app(scope, receive, send)
            return
        try:
            response = await endpoint(Request(scope, receive, send))
            await response(scope, receive, send)
        except ApiError as error:
            # Raised only before an answer has begun: see `GenerationResponse`.
            await error_response(error, scope["path"])(scope, receive, send)

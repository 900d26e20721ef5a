"""Paths as clients write them whose base URL has a `/` or a `/v1` too many or too few.

They are answered where they stand: a redirect would name this server's own scheme, and lose the
request behind a proxy that speaks TLS.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from starlette.types import ASGIApp, Receive, Scope, Send

API_PREFIX = "/v1/"

_BEGINNING = re.compile(r"/+((?:v1/+)*)")


class Paths:
    """Gives each request the path that it means.

    Args:
        routes: the server's own paths, of which those below `/v1/` may come without it.
    """

    def __init__(self, app: ASGIApp, routes: Iterable[str]) -> None:
        self.app = app
        self._routes = frozenset(routes)
        self._below_prefix = frozenset(
            route.removeprefix(API_PREFIX).partition("/")[0]
            for route in self._routes
            if route.startswith(API_PREFIX)
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            scope["path"] = self.meant(scope["path"])
        await self.app(scope, receive, send)

    def meant(self, path: str) -> str:
        """Return the path with one slash at its beginning, none at its end, and `/v1` once."""
        if path in self._routes:
            return path
        beginning = _BEGINNING.match(path)
        if beginning is None:
            return path
        rest = path[beginning.end() :].rstrip("/")
        is_api = bool(beginning[1]) or rest.partition("/")[0] in self._below_prefix
        return (API_PREFIX if is_api else "/") + rest

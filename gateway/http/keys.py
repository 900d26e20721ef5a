"""API keys: who may ask at all, which tenant each holder is, and who may give orders."""

from __future__ import annotations

import hmac
from collections.abc import Sequence
from hashlib import sha256

from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from gateway.errors import Forbidden, InvalidApiKey
from gateway.http.error_body import error_response
from gateway.http.headers import header
from shared.loopback import is_loopback

OPEN_PATHS = ("/", "/health")
OPEN_PREFIX = "/page/"
"""The page's own files: it asks its user for the key and sends it with each call."""


class ApiKeys:
    """Turns away requests without one of `keys`; notes the tenant of the others."""

    def __init__(self, app: ASGIApp, keys: Sequence[str]) -> None:
        self.app = app
        self._digests = [sha256(key.encode()).digest() for key in keys]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and not _is_open(scope["path"]):
            try:
                scope["state"]["tenant"] = self._tenant(scope)
            except InvalidApiKey as error:
                await error_response(error, scope["path"])(scope, receive, send)
                return
        await self.app(scope, receive, send)

    def _tenant(self, scope: Scope) -> str:
        """Return a name for the holder of the presented key.

        Raises:
            InvalidApiKey: there is no key, or a wrong one.
        """
        key = _presented_key(scope)
        if not key:
            raise InvalidApiKey(
                "No API key was sent; send it as 'Authorization: Bearer KEY' or 'x-api-key: KEY'."
            )
        digest = sha256(key).digest()
        # All are compared, so that the time taken tells nothing about which came close.
        matches = [hmac.compare_digest(digest, known) for known in self._digests]
        if not any(matches):
            raise InvalidApiKey("The API key is not valid.")
        return digest.hex()[:16]


def tenant_of(request: Request) -> str:
    """Return a name for the holder of the request's API key; empty when none is asked for."""
    tenant: str = request.scope["state"].get("tenant", "")
    return tenant


def check_operator(request: Request, *, keys_are_set: bool) -> None:
    """Let through who may give orders: where keys are asked for, every holder (`ApiKeys` has turned
    the others away), else whoever is on this machine.

    Raises:
        Forbidden: the request comes from elsewhere.
    """
    if not keys_are_set and not _is_local(request):
        raise Forbidden(
            "Without an API key, workers take orders only from the gateway's own machine; "
            "start the gateway with --api-key to give them from elsewhere."
        )


def _is_local(request: Request) -> bool:
    """From this machine, and by a name of it: a page that has rebound its own name to this
    machine comes from here too, but under that name."""
    caller = request.client.host if request.client else ""
    return is_loopback(caller) and is_loopback(request.url.hostname or "")


def _is_open(path: str) -> bool:
    return path in OPEN_PATHS or path.startswith(OPEN_PREFIX)


def _presented_key(scope: Scope) -> bytes:
    scheme, _, key = header(scope, b"authorization").partition(b" ")
    if scheme.lower() == b"bearer":
        return key.strip()
    return header(scope, b"x-api-key")

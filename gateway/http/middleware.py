"""What every request passes before it reaches a route, outermost first. Plain ASGI.

`RequestIds` names the request and is the last boundary for faults of ours; `Doors` turns away
those who hold no key or come by a host name that is not ours; `BodyBudget` bounds what all
bodies take together.
"""

from __future__ import annotations

import asyncio
import hmac
import ipaddress
import logging
import re
import secrets
from collections.abc import Callable, Sequence
from functools import lru_cache
from hashlib import sha256

from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gateway.errors import ApiError, Forbidden, InvalidApiKey, QueueFull
from gateway.http.connection import ClientGone
from gateway.http.error_body import error_response, internal_error, stopping
from gateway.http.headers import header

log = logging.getLogger(__name__)

OPEN_PATHS = ("/", "/health")
OPEN_PREFIX = "/page/"
"""The page's own files: it asks its user for the key and sends it with each call."""

FULL_RETRY_S = 1.0

ID_BYTES = 16

_SANE_ID = re.compile(rb"[A-Za-z0-9._-]{1,128}")


def tenant_of(request: Request) -> str:
    """Return a name for the holder of the request's API key; empty when none is asked for."""
    tenant: str = request.scope["state"].get("tenant", "")
    return tenant


class RequestIds:
    """Puts a request id into `scope["state"]` and on every answer."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        request_id = _client_request_id(scope) or secrets.token_hex(ID_BYTES)
        scope.setdefault("state", {})["request_id"] = request_id
        id_header = (b"x-request-id", request_id.encode())
        started = finished = False

        async def send_with_id(message: Message) -> None:
            nonlocal started, finished
            if message["type"] == "http.response.start":
                started = True
                message["headers"] = [*message.get("headers", ()), id_header]
            elif not message.get("more_body"):
                finished = True
            await send(message)

        try:
            await self.app(scope, receive, send_with_id)
        except asyncio.CancelledError:
            # The server is being stopped and does not wait any longer.
            if finished:
                return
            if started:
                raise
            await error_response(stopping(), scope["path"])(scope, receive, send_with_id)
        except ClientGone:
            log.debug("client gone", extra={"fields": {"request_id": request_id}})
        except Exception:
            log.exception("request failed", extra={"fields": {"request_id": request_id}})
            # Once an answer has begun, only a broken connection tells that it is not whole;
            # the server breaks it when the answer stays incomplete.
            if not started:
                await error_response(internal_error(scope), scope["path"])(
                    scope, receive, send_with_id
                )


class Doors:
    """Checks the host name and the API key.

    Args:
        keys: the keys that are accepted; empty: no key is asked for.
        hosts: the Host names that are accepted; None: any.
    """

    def __init__(self, app: ASGIApp, keys: Sequence[str], hosts: Sequence[str] | None) -> None:
        self.app = app
        self._digests = [sha256(key.encode()).digest() for key in keys]
        self._hosts = None if hosts is None else {host.lower() for host in hosts}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        try:
            self._check(scope)
        except ApiError as error:
            await error_response(error, scope["path"])(scope, receive, send)
            return
        await self.app(scope, receive, send)

    def _check(self, scope: Scope) -> None:
        if self._hosts is not None:
            self._check_host(header(scope, b"host"))
        path = scope["path"]
        if self._digests and path not in OPEN_PATHS and not path.startswith(OPEN_PREFIX):
            scope["state"]["tenant"] = self._tenant(scope)

    def _check_host(self, host: bytes) -> None:
        """Refuse a page that made its own name point here (DNS rebinding)."""
        assert self._hosts is not None
        name = _without_port(host.decode("latin-1")).lower()
        if name not in self._hosts and not _is_loopback_address(name):
            raise Forbidden(
                "This server does not answer to the Host name it was called by; "
                "start the gateway with --allowed-host to add it."
            )

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


class BodyBudget:
    """Bounds the memory that all requests' bodies take together, from their first byte until
    they are answered: what a body held (its images) lives that long.

    Args:
        max_bytes: for all requests at once.
        freed: told what each request held when it is over.
    """

    def __init__(self, app: ASGIApp, max_bytes: int, freed: Callable[[int], None]) -> None:
        self.app = app
        self._max_bytes = max_bytes
        self._freed = freed
        self._used_bytes = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        held_bytes = 0

        async def receive_within_budget() -> Message:
            nonlocal held_bytes
            message = await receive()
            size = len(message.get("body", b""))
            if self._used_bytes + size > self._max_bytes:
                raise QueueFull(retry_after_s=FULL_RETRY_S)
            held_bytes += size
            self._used_bytes += size
            return message

        try:
            await self.app(scope, receive_within_budget, send)
        finally:
            self._used_bytes -= held_bytes
            self._freed(held_bytes)


def _client_request_id(scope: Scope) -> str | None:
    value = header(scope, b"x-request-id")
    return value.decode() if _SANE_ID.fullmatch(value) else None


def _presented_key(scope: Scope) -> bytes:
    scheme, _, key = header(scope, b"authorization").partition(b" ")
    if scheme.lower() == b"bearer":
        return key.strip()
    return header(scope, b"x-api-key")


def _without_port(host: str) -> str:
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0]


@lru_cache(maxsize=256)
def _is_loopback_address(name: str) -> bool:
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False

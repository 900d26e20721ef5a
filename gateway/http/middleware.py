"""What every request passes before it reaches a route, outermost first. Plain ASGI.

`RequestIds` names the request and is the last boundary for faults of ours; `HostNames` turns away
those who come by no one host name, or by one that is not ours, and `ApiKeys` (`keys.py`) those who
hold no key; `BodyBudget` counts what all bodies take together; `Heads` answers HEAD.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
import secrets
import time
from collections.abc import Sequence

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gateway.errors import ApiError, DeadlinePassed, Forbidden, InvalidRequest
from gateway.http.connection import ClientGone, UntilGone, connection_of
from gateway.http.error_body import error_response, internal_error, stopping
from gateway.http.headers import header, host_name, says_its_host
from gateway.memory import LARGE_BYTES, Holding, MemoryBudget
from shared.loopback import is_loopback

log = logging.getLogger(__name__)

ID_BYTES = 16

_SANE_ID = re.compile(rb"[A-Za-z0-9._-]{1,128}")


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
                connection_of(scope).answer_begins()
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
            # Once an answer has begun, only a broken connection tells that it is cut short;
            # the server breaks it when the answer stays incomplete.
            if not started:
                await error_response(internal_error(scope), scope["path"])(
                    scope, receive, send_with_id
                )


class HostNames:
    """Turns away requests that do not say by which host name they come, and those whose name is
    not ours.

    The first because HTTP demands it, and a proxy before this server may have judged another name;
    the second against a page that made its own name point here (DNS rebinding). Loopback addresses
    are always ours.

    Args:
        hosts: other names of ours; None: any is.
    """

    def __init__(self, app: ASGIApp, hosts: Sequence[str] | None) -> None:
        self.app = app
        self._hosts = None if hosts is None else {host.lower() for host in hosts}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            error = self._refusal(scope)
            if error is not None:
                await error_response(error, scope["path"])(scope, receive, send)
                return
        await self.app(scope, receive, send)

    def _refusal(self, scope: Scope) -> ApiError | None:
        if not says_its_host(scope):
            return InvalidRequest("A request has one Host header, with a name or an address in it.")
        if self._hosts is None:
            return None
        name = host_name(scope)
        if name in self._hosts or is_loopback(name):
            return None
        return Forbidden(
            "This server does not answer to the Host name it was called by; "
            "start the gateway with --allowed-host to add it."
        )


class BodyBudget:
    """Counts each body, from its first byte until its request is answered, in the memory that all
    requests hold together. What else the request comes to hold is counted in `memory_of` it.

    A large body waits until there is room for it, unread.

    Args:
        longest_wait_s: what a request may take in all.
    """

    def __init__(self, app: ASGIApp, memory: MemoryBudget, longest_wait_s: float) -> None:
        self.app = app
        self._memory = memory
        self._longest_wait_s = longest_wait_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        with self._memory.open(client_of(scope)) as held:
            scope["state"]["memory"] = held
            declared = header(scope, b"content-length")
            waits = declared.isdigit() and int(declared) >= LARGE_BYTES

            async def receive_within_budget() -> Message:
                nonlocal waits
                if waits:
                    waits = False
                    await self._wait(scope, held, int(declared))
                message = await receive()
                held.take(len(message.get("body", b"")))
                return message

            await self.app(scope, receive_within_budget, send)

    async def _wait(self, scope: Scope, held: Holding, size_bytes: int) -> None:
        """Raises BodyTooLarge, DeadlinePassed, ClientGone."""
        connection = connection_of(scope)
        began = time.monotonic()
        connection.body_waits(True)
        try:
            with UntilGone(scope):
                async with asyncio.timeout(self._longest_wait_s):
                    await held.wait_for_body(size_bytes)
        except TimeoutError:
            raise DeadlinePassed(
                f"The request waited {self._longest_wait_s:g} s for memory that others hold."
            ) from None
        finally:
            connection.body_waits(False)
            scope["state"]["waited_s"] = time.monotonic() - began


class _Told(Exception):
    """Ends a stream of which nobody reads more than the headers."""


class Heads:
    """Asks `app` with GET, and lets the headers of its answer through."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "HEAD":
            await self.app(scope, receive, send)
            return

        async def send_head(message: Message) -> None:
            if message["type"] == "http.response.start":
                await send(message)
                await send({"type": "http.response.body"})
            elif message.get("more_body"):
                raise _Told

        with contextlib.suppress(_Told):
            await self.app({**scope, "method": "GET"}, receive, send_head)


def client_of(scope: Scope) -> str:
    """Return a name for who asks: the holder of a key, where there are keys, else an address."""
    tenant: str = scope["state"].get("tenant", "")
    address: str = scope["client"][0] if scope["client"] else ""
    return tenant or address


def _client_request_id(scope: Scope) -> str | None:
    value = header(scope, b"x-request-id")
    return value.decode() if _SANE_ID.fullmatch(value) else None

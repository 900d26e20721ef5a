"""Uvicorn's HTTP/1.1 protocol with the limits it lacks: on time and size of what a client sends.

A client that sends its headers or its body drop by drop, or does not read its answer, holds a
connection, never a slot, and only for a bounded time; headers, and all that frames a body, are
bounded in size; what is no HTTP gets the one error body.
"""

from __future__ import annotations

import asyncio
import enum
import secrets
from collections.abc import Callable
from http import HTTPStatus
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from gateway.errors import ApiError, InvalidRequest, QueueFull
from gateway.http.error_body import error_body

MAX_HEADER_BYTES = 64 * 1024
LINGER_S = 1.0
FULL_RETRY_S = 1.0


class HeadersTooLarge(InvalidRequest):
    status = 431


class TooSlow(InvalidRequest):
    status = 408


class Receiving(enum.Enum):
    NOTHING = "between two requests"
    HEADERS = "headers"
    BODY = "body"


def bounded_protocol(
    max_connections: int, header_timeout_s: float, body_timeout_s: float, write_timeout_s: float
) -> Callable[..., HttpToolsProtocol]:
    """Return what `uvicorn.Config(http=...)` makes a protocol with, one a connection.

    Args:
        max_connections: those beyond are told so and cut.
        header_timeout_s: from the connection's start or a request's first byte to its headers' end.
        body_timeout_s: from the headers' end to the body's.
        write_timeout_s: for how long a client may leave an answer unread that waits for it.
    """
    limits = {
        Receiving.NOTHING: header_timeout_s,
        Receiving.HEADERS: header_timeout_s,
        Receiving.BODY: body_timeout_s,
    }

    class Bounded(BoundedProtocol):
        limits_s = limits
        most_connections = max_connections
        unread_limit_s = write_timeout_s

    return Bounded


class BoundedProtocol(HttpToolsProtocol):
    limits_s: dict[Receiving, float]
    most_connections: int
    unread_limit_s: float

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._receiving = Receiving.NOTHING
        self._header_bytes = 0
        self._framing_bytes = 0
        self._body_bytes_read = 0
        """Of the data being parsed: a part of a body, or of several."""
        self._refused = False
        self._deadline: asyncio.TimerHandle | None = None
        self._unread: asyncio.TimerHandle | None = None
        self._lost = False
        self._when_gone: Callable[[], None] | None = None
        self._when_stopping: Callable[[], object] | None = None

    # What requests are given as `gateway.http.connection.Connection`

    def abort(self) -> None:
        self.transport.abort()

    def when_gone(self, call: Callable[[], None] | None) -> None:
        self._when_gone = call
        if self._lost and call is not None:
            self.loop.call_soon(self._tell_gone)

    def when_stopping(self, call: Callable[[], object] | None) -> None:
        self._when_stopping = call

    def _tell_gone(self) -> None:
        if self._when_gone is not None:
            self._when_gone()

    # Server callbacks

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)  # type: ignore[arg-type]
        if len(self.connections) > self.most_connections:
            self._refuse(QueueFull(retry_after_s=FULL_RETRY_S))
        else:
            self._arm()

    def shutdown(self) -> None:
        super().shutdown()
        if self._when_stopping is not None:
            self._when_stopping()

    def connection_lost(self, exc: Exception | None) -> None:
        self._disarm()
        self._is_read()
        # Uvicorn does so only when the client has closed in order: after a reset the timer would
        # hold all of the connection for `--idle-timeout`.
        self._unset_keepalive_if_required()
        super().connection_lost(exc)
        self._lost = True
        self._tell_gone()

    def data_received(self, data: bytes) -> None:
        if self._refused:
            return
        self._body_bytes_read = 0
        super().data_received(data)
        if self._refused or self.transport.is_closing():
            return
        no_body = len(data) - self._body_bytes_read
        if self._receiving is Receiving.HEADERS:
            # One endless header reaches no callback of the parser, so its bytes are counted here.
            # Before it may stand the rest of a body that was refused before it had all arrived.
            self._header_bytes += no_body
            if self._header_bytes > MAX_HEADER_BYTES:
                self._refuse(HeadersTooLarge("The request headers are too large."))
                return
        elif self._receiving is Receiving.BODY:
            # So do chunk extensions and trailers: what comes without any of the body.
            self._framing_bytes = 0 if self._body_bytes_read else self._framing_bytes + no_body
            if self._framing_bytes > MAX_HEADER_BYTES:
                self._refuse(HeadersTooLarge("The body's framing is too large."))
                return
        waiting = self._receiving is not Receiving.NOTHING or self._answered()
        if waiting and self._deadline is None and self.timeout_keep_alive_task is None:
            self._arm()

    def send_400_response(self, msg: str) -> None:
        if self._receiving is Receiving.HEADERS and self._header_bytes > MAX_HEADER_BYTES:
            self._refuse(HeadersTooLarge("The request headers are too large."))
        else:
            self._refuse(InvalidRequest("This is not a valid HTTP request."))

    # Parser callbacks

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._receiving = Receiving.HEADERS
        self._header_bytes = 0
        self._framing_bytes = 0
        self.scope["state"]["connection"] = self

    def on_headers_complete(self) -> None:
        self._header_bytes = sum(len(name) + len(value) for name, value in self.headers)
        if self._header_bytes + len(self.url) > MAX_HEADER_BYTES:
            raise ValueError("headers too large")  # becomes a call of send_400_response
        self._receiving = Receiving.BODY
        self._disarm()
        super().on_headers_complete()

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._receiving is Receiving.HEADERS:  # trailers mean nothing here
            super().on_header(name, value)

    def on_body(self, body: bytes) -> None:
        self._body_bytes_read += len(body)
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._receiving = Receiving.NOTHING
        self._disarm()
        super().on_message_complete()

    # A client that does not read

    def pause_writing(self) -> None:
        super().pause_writing()
        self._watch_reading()

    def resume_writing(self) -> None:
        super().resume_writing()
        if not self.transport.is_closing():
            self._is_read()

    def timeout_keep_alive_handler(self) -> None:
        super().timeout_keep_alive_handler()
        self._watch_reading()

    def _watch_reading(self) -> None:
        if self._unread is None:
            self._unread = self.loop.call_later(self.unread_limit_s, self.transport.abort)

    def _is_read(self) -> None:
        if self._unread is not None:
            self._unread.cancel()
            self._unread = None

    # The deadline

    def _arm(self) -> None:
        self._deadline = self.loop.call_later(self.limits_s[self._receiving], self._late)

    def _disarm(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _late(self) -> None:
        self._deadline = None
        if self._receiving is Receiving.NOTHING:
            self.transport.close()
        else:
            self._refuse(TooSlow(f"The request's {self._receiving.value} took too long to arrive."))

    def _answered(self) -> bool:
        return self.cycle is None or self.cycle.response_complete

    def _refuse(self, error: ApiError) -> None:
        """Answer, unless the application has begun to, and cut. What the application does for
        this request is undone by the disconnect that it sees."""
        begun = self._receiving is Receiving.BODY and self.cycle.response_started
        running = self._receiving is not Receiving.BODY and not self._answered()
        if not begun and not running:
            body = error_body(error)
            lines = (
                f"HTTP/1.1 {error.status} {HTTPStatus(error.status).phrase}",
                "content-type: application/json",
                f"content-length: {len(body)}",
                f"x-request-id: {secrets.token_hex(16)}",
                *(f"{name.lower()}: {value}" for name, value in error.headers.items()),
                "connection: close",
            )
            self.transport.write("\r\n".join((*lines, "\r\n")).encode("ascii") + body)
        # Closing at once, with input unread, would reset the connection and take the answer with
        # it. So the rest is read and dropped for a moment, or until the client closes.
        self._refused = True
        self._disarm()
        self._deadline = self.loop.call_later(LINGER_S, self.transport.abort)
        self.transport.write_eof()

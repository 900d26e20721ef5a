"""Uvicorn's HTTP/1.1 protocol with the limits it lacks: on time and size of what a client sends.

A client that sends its headers or its body drop by drop, or does not read its answer, holds a
connection, never a slot, and only for a bounded time; headers, and all that frames a body, are
bounded in size; what is no HTTP gets the one error body.

Answers that are owed for whole requests come first: what a client sends behind them, or that it has
closed its end, does not take them away.

Uvicorn's protocol has no public interface; `tests/gateway/http/test_protocol.py` lists the names of
it that are used here.
"""

from __future__ import annotations

import asyncio
import enum
import secrets
from collections.abc import Callable
from http import HTTPStatus
from typing import Any, ClassVar, cast

from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from gateway.errors import ApiError, InvalidRequest, QueueFull
from gateway.http.error_body import error_body
from gateway.http.parser import Parser

MAX_HEADER_BYTES = 64 * 1024
LINGER_S = 1.0
FULL_RETRY_S = 1.0

STILL_THERE = b"HTTP/1.1 100 Continue\r\n\r\n"
FIRST_PROBE_S = 0.005
PROBE_GROWTH = 4
LONGEST_PROBE_S = 10.0
"""A client that has closed its end may wait for its answer (`nc -N`) or be gone: only its system's
reaction to data tells. HTTP/1.1 lets an interim answer go before the final one, and a stream has
comments. They go out soon, since a client that has gone still holds a slot, and then ever more
rarely."""


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
        open_connections: ClassVar[set[BoundedProtocol]] = set()
        limits_s = limits
        most_connections = max_connections
        unread_limit_s = write_timeout_s

    return Bounded


class BoundedProtocol(HttpToolsProtocol):
    open_connections: ClassVar[set[BoundedProtocol]]
    limits_s: dict[Receiving, float]
    most_connections: int
    unread_limit_s: float
    parser: Parser

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, {**app_state, "connection": self}, _loop)
        self._loop = _loop or asyncio.get_running_loop()
        self.parser = Parser(self)
        self._receiving = Receiving.NOTHING
        self._unanswered = 0
        """Requests whose headers are there and whose answer is not complete."""
        self._answering = False
        """Whether the answer to the first of them has begun."""
        self._header_bytes = 0
        self._framing_bytes = 0
        self._body_bytes_read = 0
        """Of the data being parsed: a part of a body, or of several."""
        self._request_ended = False
        """Whether it holds the end of a request, so that not all of it belongs to the next."""
        self._refusal: ApiError | None = None
        """Told once all answers that are owed are complete. Whatever comes meanwhile is dropped."""
        self._body_waits = False
        """Whether a body is not read for want of memory, whatever its client sends."""
        self._half_closed = False
        self._http_1_0 = False
        self._deadline: asyncio.TimerHandle | None = None
        self._probe: asyncio.TimerHandle | None = None
        self._unread: asyncio.TimerHandle | None = None
        self._lost = False
        self._when_gone: Callable[[], None] | None = None
        self._when_half_closed: Callable[[], None] | None = None
        self._when_stopping: Callable[[], object] | None = None

    # What requests are given as `gateway.http.connection.Connection`

    def answer_begins(self) -> None:
        self._answering = True
        self._watch_receiving()

    def body_waits(self, waits: bool) -> None:
        self._body_waits = waits
        self._watch_receiving()

    def abort(self) -> None:
        self._transport.abort()

    def when_gone(self, call: Callable[[], None] | None) -> None:
        self._when_gone = call
        if self._lost and call is not None:
            self._loop.call_soon(self._tell_gone)

    def when_half_closed(self, call: Callable[[], None] | None) -> None:
        self._when_half_closed = call

    def when_stopping(self, call: Callable[[], object] | None) -> None:
        self._when_stopping = call

    def _tell_gone(self) -> None:
        if self._when_gone is not None:
            self._when_gone()

    # Server callbacks

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)  # type: ignore[arg-type]
        self._transport = cast(asyncio.Transport, transport)
        self.open_connections.add(self)
        if len(self.open_connections) > self.most_connections:
            self._refuse(QueueFull(retry_after_s=FULL_RETRY_S))
        else:
            self._watch_receiving()

    def shutdown(self) -> None:
        super().shutdown()
        if self._transport.is_closing():
            self._watch_reading()
        if self._when_stopping is not None:
            self._when_stopping()

    def eof_received(self) -> bool:  # type: ignore[override]
        """Return whether the connection stays open for what is owed."""
        if self._lost or not self._owed():
            return False
        self._half_closed = True
        self._probe_in(FIRST_PROBE_S)
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        self.open_connections.discard(self)
        self._disarm()
        self._is_read()
        if self._probe is not None:
            self._probe.cancel()
        # None, whatever it was: after a reset uvicorn would leave its timer for idle connections
        # running, and with it hold all of the connection for `--idle-timeout`.
        super().connection_lost(None)
        self._lose()

    def _lose(self) -> None:
        """To whoever works for it, the connection is lost."""
        if not self._lost:
            self._lost = True
            self._tell_gone()

    def data_received(self, data: bytes) -> None:
        if self._refusal is not None:
            return
        self._body_bytes_read = 0
        self._request_ended = False
        super().data_received(data)
        if self._refusal is not None or self._transport.is_closing():
            return
        no_body = 0 if self._request_ended else len(data) - self._body_bytes_read
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
        self._watch_receiving()

    def send_400_response(self, msg: str) -> None:
        if self._receiving is Receiving.HEADERS and self._header_bytes > MAX_HEADER_BYTES:
            self._refuse(HeadersTooLarge("The request headers are too large."))
        else:
            self._refuse(InvalidRequest("This is not a valid HTTP request."))

    def on_response_complete(self) -> None:
        self._unanswered -= 1
        self._answering = False
        super().on_response_complete()
        if self._transport.is_closing():
            self._watch_reading()
        elif not self._owed():
            self._nothing_owed()

    def _nothing_owed(self) -> None:
        if self._refusal is not None:
            self._tell(self._refusal)
        elif self._half_closed:
            self._transport.close()
        elif self._receiving is not Receiving.NOTHING:  # else uvicorn has set its timer
            self._watch_receiving()

    # Parser callbacks

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._receiving = Receiving.HEADERS
        self._header_bytes = 0
        self._framing_bytes = 0

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._receiving is Receiving.HEADERS:  # trailers mean nothing here
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        self._header_bytes = self.parser.head_bytes
        if self._header_bytes > MAX_HEADER_BYTES:
            raise ValueError("headers too large")  # becomes a call of send_400_response
        if self.parser.is_offer:
            if self.parser.get_method() == b"CONNECT":
                raise ValueError("this is no proxy")
            return
        self._http_1_0 = self.parser.get_http_version() == "1.0"
        super().on_headers_complete()
        self._receiving = Receiving.BODY
        self._unanswered += 1
        self._disarm()

    def on_body(self, body: bytes) -> None:
        self._body_bytes_read += len(body)
        super().on_body(body)

    def on_message_complete(self) -> None:
        if self.parser.is_offer:
            return
        self._receiving = Receiving.NOTHING
        self._request_ended = True
        self._disarm()
        super().on_message_complete()

    def _owed(self) -> bool:
        """Whether an answer runs, or waits for its turn, that does not depend on more input."""
        incomplete = self._receiving is Receiving.BODY and not self._answering
        return self._unanswered > incomplete

    # A client that does not read

    def pause_writing(self) -> None:
        super().pause_writing()
        self._watch_reading()

    def resume_writing(self) -> None:
        super().resume_writing()
        if not self._transport.is_closing():
            self._is_read()

    def timeout_keep_alive_handler(self) -> None:
        super().timeout_keep_alive_handler()
        self._watch_reading()

    def _watch_reading(self) -> None:
        if self._unread is None:
            self._unread = self._loop.call_later(self.unread_limit_s, self._transport.abort)

    def _is_read(self) -> None:
        if self._unread is not None:
            self._unread.cancel()
            self._unread = None

    # A client that has closed its end

    def _probe_in(self, delay_s: float) -> None:
        self._probe = self._loop.call_later(delay_s, self._ask_whether_there, delay_s)

    def _ask_whether_there(self, delay_s: float) -> None:
        if self._transport.is_closing():
            return
        if self._answering:
            if self._when_half_closed is not None:
                self._when_half_closed()
        elif self._http_1_0:
            # It knows no interim answers, so it is taken for gone.
            self._transport.abort()
            return
        else:
            self._transport.write(STILL_THERE)
        self._probe_in(min(PROBE_GROWTH * delay_s, LONGEST_PROBE_S))

    # The deadline

    def _watch_receiving(self) -> None:
        """A client's time runs while it is its turn: not while an answer is owed to it, or its body
        waits for memory, before which nobody reads what it sends."""
        if self._owed() or self._body_waits or self._refusal is not None:
            self._disarm()
        elif self._deadline is None:
            self._deadline = self._loop.call_later(self.limits_s[self._receiving], self._late)

    def _disarm(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _late(self) -> None:
        self._deadline = None
        if self._receiving is Receiving.NOTHING:
            self._transport.close()
        else:
            self._refuse(TooSlow(f"The request's {self._receiving.value} took too long to arrive."))

    # The end

    def _refuse(self, error: ApiError) -> None:
        """Take nothing more; answer, once nothing else is owed, and cut."""
        self._refusal = error
        self._disarm()
        if not self._owed():
            self._tell(error)

    def _tell(self, error: ApiError) -> None:
        answered = self._receiving is Receiving.BODY and not self._unanswered
        if not answered:
            self._transport.write(_http_answer(error))
        # So that the application stops, and writes nothing more: its answer would come too late.
        super().connection_lost(ConnectionAbortedError())
        self._lose()
        # Closing at once, with input unread, would reset the connection and take the answer with
        # it. So the rest is read and dropped for a moment, or until the client closes.
        if self._half_closed:
            self._transport.close()
            return
        self._deadline = self._loop.call_later(LINGER_S, self._transport.abort)
        self._transport.write_eof()


def _http_answer(error: ApiError) -> bytes:
    body = error_body(error)
    lines = (
        f"HTTP/1.1 {error.status} {HTTPStatus(error.status).phrase}",
        "content-type: application/json",
        f"content-length: {len(body)}",
        f"x-request-id: {secrets.token_hex(16)}",
        *(f"{name.lower()}: {value}" for name, value in error.headers.items()),
        "connection: close",
    )
    return "\r\n".join((*lines, "\r\n")).encode("ascii") + body

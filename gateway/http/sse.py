"""Server-sent events to one client: written in time, kept alive in silence, never piled up."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from starlette.types import Scope, Send

from gateway.http.connection import ClientGone, connection_of
from gateway.http.pieces import pieces
from gateway.http.timeouts import Timeouts

KEEP_ALIVE = b": keep-alive\n\n"

HEADERS = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache"),
    # nginx would otherwise hold events back until its buffer is full.
    (b"x-accel-buffering", b"no"),
]

ABORT_S = 1.0
"""How long an aborted connection may take to be noticed as such."""

T = TypeVar("T")


class EventWriter:
    """Writes one stream; to be closed when it is done.

    Args:
        send: the server's end. It waits while the connection's buffer is full.
        write_timeout_s: how long a client may not read before its connection is cut; until then
            no more than one batch of events waits beside the connection's own buffer.
        keep_alive_s: after how much silence a comment is written.
    """

    def __init__(
        self, scope: Scope, send: Send, *, write_timeout_s: float, keep_alive_s: float
    ) -> None:
        self._connection = connection_of(scope)
        self._send = send
        self._write_timeout_s = write_timeout_s
        self._keep_alive_s = keep_alive_s
        self._timeouts = Timeouts(min(write_timeout_s, keep_alive_s))
        self._silent = False
        self._connection.when_half_closed(self._end_silence)

    def close(self) -> None:
        self._connection.when_half_closed(None)
        self._timeouts.close()

    async def start(self, headers: Sequence[tuple[bytes, bytes]] = ()) -> None:
        """Args: headers: besides those of every stream."""
        all_headers = [*HEADERS, *headers]
        await self._send({"type": "http.response.start", "status": 200, "headers": all_headers})

    async def write(self, data: bytes, *, last: bool = False) -> None:
        """Send events.

        Raises:
            ClientGone: the client has not read for too long.
        """
        if not data and not last:
            return
        try:
            for piece, more in pieces(data, last=last):
                message = {"type": "http.response.body", "body": piece, "more_body": more}
                await self._timeouts.wait(self._send(message), self._write_timeout_s)
        except TimeoutError:
            await self._abort()
            raise ClientGone from None

    async def keep_alive_until(self, news: Callable[[], Awaitable[T]]) -> T:
        """Wait for news, writing comments into the silence.

        `news` is cancelled and called again, so it must lose nothing when it is.
        """
        while True:
            self._silent = True
            try:
                return await self._timeouts.wait(news(), self._keep_alive_s)
            except TimeoutError:
                pass
            finally:
                self._silent = False
            await self.write(KEEP_ALIVE)

    def _end_silence(self) -> None:
        if self._silent:
            self._timeouts.expire()

    async def _abort(self) -> None:
        self._connection.abort()
        await asyncio.sleep(ABORT_S)  # ended early by the watch for a client that leaves

"""The client at the other end: notice when it goes away."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import TracebackType
from typing import Protocol

from starlette.types import Scope


class ClientGone(Exception):
    """The client has closed its connection: nobody is left to answer."""


class Connection(Protocol):
    """The client's connection; `scope["state"]["connection"]` of every request."""

    def answer_begins(self) -> None:
        """To be called when an answer's head is sent."""

    def body_waits(self, waits: bool) -> None:
        """Say whether the request's body is not read at the moment, for want of memory: its time to
        arrive does not run then, and runs anew afterwards."""

    def abort(self) -> None:
        """Cut it: closing it in order would wait for the client to read."""

    def when_gone(self, call: Callable[[], None] | None) -> None:
        """Have `call` called, soon, once the connection is lost or if it is already; None: no
        more. There is one call at most, because a connection has one request at a time."""

    def when_half_closed(self, call: Callable[[], None] | None) -> None:
        """Have `call` called, again and again, while an answer runs to a client that has closed its
        end: it should write something soon, which finds out whether the client is still there."""

    def when_stopping(self, call: Callable[[], object] | None) -> None:
        """Have `call` called when the server begins to stop: for answers that have no end of
        their own, and would be waited for in vain."""


def connection_of(scope: Scope) -> Connection:
    connection: Connection = scope["state"]["connection"]
    return connection


class UntilGone:
    """Cancels the work inside its block when the client goes away, and raises ClientGone.

    Like `asyncio.timeout`, it tells its own cancellation from others by counting. It needs no task
    that waits for the news: that took 22 µs of every request (docs/benchmarks.md).
    """

    def __init__(self, scope: Scope) -> None:
        self._connection = connection_of(scope)
        self._gone = False

    def __enter__(self) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._task = task
        self._cancelling = task.cancelling()
        self._connection.when_gone(self._leave)

    def __exit__(
        self,
        error_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._connection.when_gone(None)
        if not self._gone:
            return
        ours_alone = self._task.uncancel() <= self._cancelling
        if ours_alone and error_type is asyncio.CancelledError:
            raise ClientGone from error

    def _leave(self) -> None:
        self._gone = True
        self._task.cancel()

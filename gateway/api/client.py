"""The client at the other end: notice when it goes away."""

from __future__ import annotations

import asyncio
from types import TracebackType

from starlette.types import Receive


class ClientGone(Exception):
    """The client has closed its connection: nobody is left to answer."""


class UntilGone:
    """Cancels the work inside its block when the client goes away, and raises ClientGone.

    `receive` must be at the end of the request's body; it says only one thing after that.
    Like `asyncio.timeout`, it tells its own cancellation from others by counting.
    """

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._gone = False

    async def __aenter__(self) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._task = task
        self._cancelling = task.cancelling()
        self._watcher = asyncio.create_task(self._watch())

    async def __aexit__(
        self,
        error_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._watcher.cancel()
        if not self._gone:
            return
        ours_alone = self._task.uncancel() <= self._cancelling
        if ours_alone and error_type is asyncio.CancelledError:
            raise ClientGone from error

    async def _watch(self) -> None:
        message = await self._receive()
        while message["type"] != "http.disconnect":
            message = await self._receive()
        self._gone = True
        self._task.cancel()

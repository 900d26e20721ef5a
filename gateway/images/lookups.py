"""Looking names up: on threads of their own, and in turns.

A lookup that hangs cannot be cancelled. It keeps its thread, and here its turn, for as long as the
system waits for name servers, however early nobody waits for it any more: whoever names hosts that
nobody answers for waits behind itself.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import socket
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from gateway.images.turns import Flow, Turns

Resolve = Callable[[str, int], Awaitable[list[str]]]


async def resolve(host: str, port: int) -> list[str]:
    """Return the numeric addresses of a name. Raises OSError when there are none, UnicodeError when
    it cannot be a name."""
    looked_up: concurrent.futures.Future[list[Any]] = concurrent.futures.Future()
    looked_up.set_running_or_notify_cancel()

    def look_up() -> None:
        try:
            looked_up.set_result(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM))
        except Exception as error:
            looked_up.set_exception(error)

    # Not one of the event loop's threads, which are few. This one ends with the process.
    threading.Thread(target=look_up, name="lookup", daemon=True).start()
    found = await asyncio.wrap_future(looked_up)
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


class HostTimeout:
    """How much longer a host may take; waiting for a turn of ours is not its slowness."""

    def __init__(self, seconds: float) -> None:
        self._left_s = seconds

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Let it run within the block. Raises TimeoutError when it is over."""
        clock = asyncio.get_running_loop().time
        began = clock()
        try:
            async with asyncio.timeout(self._left_s):
                yield
        finally:
            self._left_s -= clock() - began


class Lookups:
    """
    Args:
        most: lookups at once; a quarter of it of one name.
    """

    def __init__(self, most: int, resolve: Resolve) -> None:
        self._turns = Turns(most, per_key=max(1, most // 4))
        self._resolve = resolve
        self._running: set[asyncio.Task[list[str]]] = set()

    async def addresses(
        self, host: str, port: int, flow: Flow, host_timeout: HostTimeout
    ) -> list[str]:
        """Return what `resolve` does.

        Args:
            flow: the request's lookups.

        Raises:
            TimeoutError: the host has taken too long.
            OSError, UnicodeError: see `resolve`.
        """
        began = asyncio.Event()
        lookup = asyncio.create_task(self._in_turn(host, port, flow, began))
        self._running.add(lookup)
        lookup.add_done_callback(self._ended)
        try:
            await began.wait()
            async with host_timeout.running():
                return await asyncio.shield(lookup)
        finally:
            if not began.is_set():
                lookup.cancel()

    async def _in_turn(self, host: str, port: int, flow: Flow, began: asyncio.Event) -> list[str]:
        async with self._turns.turn(flow, 1, key=host):
            began.set()
            return await self._resolve(host, port)

    def _ended(self, lookup: asyncio.Task[list[str]]) -> None:
        self._running.discard(lookup)
        if not lookup.cancelled():
            lookup.exception()  # looked at: perhaps nobody waits for it any more

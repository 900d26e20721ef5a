"""Bounded waits at the price of one timer for all of them.

`asyncio.timeout` sets and clears a timer for each wait. A stream waits twice for every batch of
tokens, thousands of times in all, and nearly never in vain; so here one slow tick looks whether
the present wait has lasted too long. A wait may end late by one tick.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import TypeVar

T = TypeVar("T")

TICKS_A_WAIT = 4


class Timeouts:
    """The bounded waits of one task; to be closed when the task is done with it.

    Args:
        shortest_s: the shortest limit that will be asked for.
    """

    def __init__(self, shortest_s: float) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._task = task
        self._cancelling = task.cancelling()
        self._loop = asyncio.get_running_loop()
        self._tick_s = shortest_s / TICKS_A_WAIT
        self._until: float | None = None
        self._ended = False
        self._timer = self._loop.call_later(self._tick_s, self._tick)

    def close(self) -> None:
        self._timer.cancel()

    async def wait(self, awaitable: Awaitable[T], limit_s: float) -> T:
        """Raises TimeoutError when it has taken longer than `limit_s`; it is cancelled then."""
        self._until = self._loop.time() + limit_s
        try:
            return await awaitable
        except asyncio.CancelledError:
            if self._ended:
                self._ended = False
                if self._task.uncancel() <= self._cancelling:
                    raise TimeoutError from None
            raise
        finally:
            self._until = None

    def expire(self) -> None:
        """End the present wait, if there is one, as though its limit had passed."""
        if self._until is not None:
            self._until = None
            self._ended = True
            self._task.cancel()

    def _tick(self) -> None:
        if self._until is not None and self._loop.time() >= self._until:
            self.expire()
        self._timer = self._loop.call_later(self._tick_s, self._tick)

"""A turn and memory for what is done in it: neither is held while the other is waited for."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from gateway.images.turns import Flow, Turns
from gateway.memory import Holding


@asynccontextmanager
async def turn_with_room(
    turns: Turns,
    flow: Flow,
    cost: float,
    memory: Holding,
    size_bytes: int,
    param: str,
    key: str = "",
) -> AsyncIterator[Holding]:
    """Wait for both and hold them for the block; what is held is beside the request.

    Args:
        cost, key: see `Turns.turn`.
        param: what the memory is for.

    Raises:
        BodyTooLarge, QueueFull: see `Holding.until_room`.
    """
    memory.check(size_bytes, param)
    while True:
        async with turns.turn(flow, cost, key):
            # Apart from the request, which may be over before a thread that works for it.
            with memory.beside() as room:
                if room.hold_if_free(size_bytes):
                    yield room
                    return
        await memory.until_room(size_bytes, param)
        cost = 0  # it was counted

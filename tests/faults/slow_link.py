"""A link that is slow both ways: a relay that hands bytes on late, and only so many a second."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import threading
from collections.abc import Callable, Iterator

PIECE_BYTES = 64 * 1024


class SlowLink:
    """Relays TCP connections to a port of this machine.

    Args:
        delay_s: each way.
        bytes_per_s: each way, for one connection.
    """

    def __init__(self, target_port: int, delay_s: float, bytes_per_s: float) -> None:
        self._target_port = target_port
        self._delay_s = delay_s
        self._bytes_per_s = bytes_per_s
        self.port = 0

    async def relay_until(self, over: asyncio.Event, listening: threading.Event) -> None:
        async with await asyncio.start_server(self._relay, "127.0.0.1", 0) as server:
            self.port = server.sockets[0].getsockname()[1]
            listening.set()
            await over.wait()

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there = await asyncio.open_connection("127.0.0.1", self._target_port)
        ways = [self._carry(reader, there[1]), self._carry(there[0], writer)]
        try:
            with contextlib.suppress(OSError):
                await asyncio.gather(*ways)
        finally:
            there[1].close()
            writer.close()

    async def _carry(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        """Bytes arrive one after another, each late by the delay and by those before it."""
        loop = asyncio.get_running_loop()
        on_its_way: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()

        async def arrive() -> None:
            while True:
                at, piece = await on_its_way.get()
                await asyncio.sleep(at - loop.time())
                if not piece:
                    sink.close()
                    return
                sink.write(piece)

        arriving = asyncio.create_task(arrive())
        free_at = 0.0
        piece = b"begin"
        while piece:
            piece = await source.read(PIECE_BYTES)
            free_at = max(free_at, loop.time()) + len(piece) / self._bytes_per_s
            on_its_way.put_nowait((free_at + self._delay_s, piece))
        await arriving


@contextlib.contextmanager
def slow_link(target_port: int, delay_s: float, bytes_per_s: float) -> Iterator[SlowLink]:
    """A link to that port while the block lasts, on a thread of its own."""
    link = SlowLink(target_port, delay_s, bytes_per_s)
    listening = threading.Event()
    end: list[Callable[[], object]] = []

    async def relay() -> None:
        over = asyncio.Event()
        end.append(functools.partial(asyncio.get_running_loop().call_soon_threadsafe, over.set))
        await link.relay_until(over, listening)

    thread = threading.Thread(target=asyncio.run, args=(relay(),), daemon=True)
    thread.start()
    try:
        assert listening.wait(10)
        yield link
    finally:
        end[0]()
        thread.join(10)

"""Open loop: requests come at a given rate, whether or not the earlier ones have been answered.

So a server that falls behind shows it: latency counts from the moment a request was due, not
from when the client got round to it.
"""

from __future__ import annotations

import asyncio
import itertools
import random
import time
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import httptools

from scripts.benchmarks.load import NUMBER, Outcome, Target, summed_up

PATIENCE_S = 30.0
"""How long answers may take after the last request; those missing then are errors."""


@dataclass
class Tally:
    latencies_s: list[float] = field(default_factory=list)
    first_s: list[float] = field(default_factory=list)
    gaps_s: list[float] = field(default_factory=list)
    errors: int = 0

    def outcome(self, seconds: float) -> Outcome:
        return summed_up(self.latencies_s, seconds, self.errors, self.first_s, self.gaps_s)


class Connection(asyncio.Protocol):
    """One HTTP/1.1 connection, kept alive, one request at a time."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._parser = httptools.HttpResponseParser(self)
        self._answered: asyncio.Future[bool] | None = None
        self.first_at = self.last_at = 0.0
        self.events = 0

    async def ask(self, request: bytes) -> bool:
        """Send and wait for the end of the answer; False unless its status is 200."""
        assert self._transport is not None
        self._parser = httptools.HttpResponseParser(self)
        self.first_at, self.events = 0.0, 0
        self._answered = asyncio.get_running_loop().create_future()
        if self._transport.is_closing():
            return False
        self._transport.write(request)
        return await self._answered

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]

    def connection_lost(self, exc: Exception | None) -> None:
        self._end(False)

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    # Parser callbacks

    def on_body(self, body: bytes) -> None:
        self.last_at = time.perf_counter()
        self.first_at = self.first_at or self.last_at
        self.events += body.count(b"data: ")

    def on_message_complete(self) -> None:
        self._end(self._parser.get_status_code() == 200)

    def _end(self, good: bool) -> None:
        if self._answered is not None and not self._answered.done():
            self._answered.set_result(good)


class Client:
    """Connections to one server, made when all others are busy."""

    def __init__(self, target: Target) -> None:
        address = urlsplit(target.url)
        self._host, self._port = address.hostname or "", address.port or 80
        self._head = f"POST {address.path} HTTP/1.1\r\nHost: {address.netloc}\r\n"
        self._body = target.body
        self._numbers = itertools.count(random.randrange(10**9))
        self._idle: list[Connection] = []

    async def ask(self, due_at: float, tally: Tally) -> None:
        connection = self._idle.pop() if self._idle else await self._connect()
        if not await connection.ask(self._request()):
            tally.errors += 1
            connection.close()
            return
        tally.latencies_s.append(connection.last_at - due_at)
        tally.first_s.append(connection.first_at - due_at)
        if connection.events > 1:
            lasted_s = connection.last_at - connection.first_at
            tally.gaps_s.append(lasted_s / (connection.events - 1))
        self._idle.append(connection)

    async def _connect(self) -> Connection:
        loop = asyncio.get_running_loop()
        _, connection = await loop.create_connection(Connection, self._host, self._port)
        return connection

    def _request(self) -> bytes:
        body = self._body.replace(NUMBER, str(next(self._numbers))).encode()
        head = f"{self._head}Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        return head.encode() + body

    def close(self) -> None:
        for connection in self._idle:
            connection.close()


async def open_loop(target: Target, per_second: float, seconds: float) -> Outcome:
    """Send evenly spaced requests for so long; wait for all answers."""
    client, tally = Client(target), Tally()
    started = time.perf_counter()
    running = set()
    for number in range(round(per_second * seconds)):
        due_at = started + number / per_second
        await asyncio.sleep(max(0.0, due_at - time.perf_counter()))
        running.add(asyncio.create_task(client.ask(due_at, tally)))
    _, late = await asyncio.wait(running, timeout=PATIENCE_S)
    for task in late:
        task.cancel()
        tally.errors += 1
    client.close()
    return tally.outcome(seconds)


async def closed_loop(target: Target, connections: int, seconds: float) -> Outcome:
    """Keep that many requests running for so long."""
    client, tally = Client(target), Tally()
    started = time.perf_counter()

    async def keep_asking() -> None:
        while time.perf_counter() - started < seconds:
            await client.ask(time.perf_counter(), tally)

    await asyncio.gather(*(keep_asking() for _ in range(connections)))
    client.close()
    return tally.outcome(time.perf_counter() - started)

"""One HTTP/1.1 client for measured load: keeps its connections, times each answer's tokens.

In Python, so that it sees every event of a stream. It parses as little as that needs; how much
of a core it took is reported with the figures (`loops.py`).
"""

from __future__ import annotations

import asyncio
import itertools
import random
import re
import time
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import httptools

from scripts.benchmarks.load.target import Target

TEXT = re.compile(rb'"(?:content|reasoning|reasoning_content)": ?"[^"]')
"""An event that brings text. A stream's first event may bring none: it costs a server nothing."""


@dataclass
class AnswerTimes:
    """Times of `time.perf_counter`. `gaps_s` has one value for each text event but the first, 0
    for those that came together."""

    good: bool = False
    ended_at: float = 0.0
    first_at: float = 0.0
    last_text_at: float = 0.0
    texts: int = 0
    gaps_s: list[float] = field(default_factory=list)

    def take(self, body: bytes, now: float) -> None:
        texts = len(TEXT.findall(body))
        if not texts:
            return
        if self.texts:
            self.gaps_s.append(now - self.last_text_at)
        else:
            self.first_at = now
        self.gaps_s.extend([0.0] * (texts - 1))
        self.texts += texts
        self.last_text_at = now


class Connection(asyncio.Protocol):
    """Kept alive, one request at a time."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._parser = httptools.HttpResponseParser(self)
        self._answer = AnswerTimes()
        self._ended: asyncio.Future[AnswerTimes] | None = None

    async def ask(self, request: bytes) -> AnswerTimes:
        """Send and wait for the end of the answer."""
        assert self._transport is not None
        self._parser = httptools.HttpResponseParser(self)
        self._answer = AnswerTimes()
        self._ended = asyncio.get_running_loop().create_future()
        if self._transport.is_closing():
            return self._answer
        self._transport.write(request)
        return await self._ended

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
        self._answer.take(body, time.perf_counter())

    def on_message_complete(self) -> None:
        self._end(self._parser.get_status_code() == 200)

    def _end(self, good: bool) -> None:
        if self._ended is not None and not self._ended.done():
            self._answer.ended_at = time.perf_counter()
            self._answer.first_at = self._answer.first_at or self._answer.ended_at
            self._answer.good = good
            self._ended.set_result(self._answer)


def post(url: str, body: str) -> bytes:
    """The bytes of a request with JSON."""
    address, content = urlsplit(url), body.encode()
    head = f"POST {address.path} HTTP/1.1\r\nHost: {address.netloc}\r\n"
    head += f"Content-Type: application/json\r\nContent-Length: {len(content)}\r\n\r\n"
    return head.encode() + content


class Client:
    """Connections to one server, made when all others are busy.

    Args:
        first: the first request's number; none: one that nobody has had.
    """

    def __init__(self, target: Target, first: int | None = None) -> None:
        address = urlsplit(target.url)
        self._host, self._port = address.hostname or "", address.port or 80
        self._target = target
        self._numbers = itertools.count(random.randrange(10**9) if first is None else first)
        self._idle: list[Connection] = []

    async def ask(self) -> AnswerTimes:
        """Return the answer; not a good one when the connection, the status or the stream fails."""
        try:
            connection = self._idle.pop() if self._idle else await self._connect()
        except OSError:
            return AnswerTimes()
        request = post(self._target.url, self._target.body_of(next(self._numbers)))
        answer = await connection.ask(request)
        if self._target.events and not answer.texts:
            answer.good = False  # an error told as an event of a stream that began as a success
        if answer.good:
            self._idle.append(connection)
        else:
            connection.close()
        return answer

    def close(self) -> None:
        for connection in self._idle:
            connection.close()

    async def _connect(self) -> Connection:
        loop = asyncio.get_running_loop()
        _, connection = await loop.create_connection(Connection, self._host, self._port)
        return connection

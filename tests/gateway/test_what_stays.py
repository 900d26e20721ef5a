"""Nothing stays of a request that is over: objects are counted, which tells more than memory does.

The HTTP side, the dispatcher and the link are real, in one process; the worker is a socket that
takes every job and finishes none, so that each request ends because its client goes away.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import socket
import struct
from collections import Counter
from collections.abc import AsyncIterator

import zmq
import zmq.asyncio

from gateway.app import create_app
from gateway.dispatch.link import Link
from gateway.http.keys import Keys
from gateway.http.listening import listen
from gateway.main import http_config
from gateway.settings import Settings
from shared import wire
from shared.messages import Accepted, Cancel, Cancelled, FromGateway, Heartbeat, Hello, Submit
from tests.gateway.serving import ServerOfTests, question
from tests.waiting import await_condition

SLOTS = 4
AT_ONCE = 16
WARM_UP = 150
"""More than any bounded history holds."""

MORE = 600
MOST_LEFT = 110
"""Of one type. What each request leaves behind would be at least `MORE`; asyncio itself keeps up
to a hundred cancelled timers, each with its context, until their time has come."""


class TakesAll:
    """A worker that accepts jobs and lets go of them when told."""

    def __init__(self, endpoint: str) -> None:
        self._socket = zmq.asyncio.Context.instance().socket(zmq.DEALER)
        self._socket.setsockopt(zmq.LINGER, 0)
        self._socket.connect(endpoint)
        self._jobs: dict[str, bool] = {}

    async def run(self) -> None:
        hello = Hello(worker="w", models=["m"], slots=SLOTS, stream_slots=SLOTS, state="ready")
        await self._socket.send_multipart(wire.encode(hello))
        while True:
            message, _ = wire.decode(await self._socket.recv_multipart(), FromGateway)
            if isinstance(message, Submit):
                self._jobs[message.job.id] = message.job.stream
                await self._say(Accepted(job=message.job.id, prompt_tokens=1))
            elif isinstance(message, Cancel):
                for job in message.jobs:
                    self._jobs.pop(job, None)
                    await self._say(Cancelled(job=job))
            else:
                await self._say(self._heartbeat())

    async def _say(self, message: Accepted | Cancelled | Heartbeat) -> None:
        await self._socket.send_multipart(wire.encode(message))

    def _heartbeat(self) -> Heartbeat:
        streams = [job for job, stream in self._jobs.items() if stream]
        non_streaming = [job for job, stream in self._jobs.items() if not stream]
        return Heartbeat(
            state="ready",
            jobs=non_streaming,
            streams=streams,
            active=len(self._jobs),
            free_slots=SLOTS - len(non_streaming),
            free_stream_slots=SLOTS - len(streams),
        )

    def close(self) -> None:
        self._socket.close()


@contextlib.asynccontextmanager
async def serving() -> AsyncIterator[tuple[Link, ServerOfTests, int]]:
    settings = Settings(host="127.0.0.1", bind=("tcp://127.0.0.1:*",), queue_size=4)
    (listener,) = listen("127.0.0.1", 0)
    link = Link(settings)
    await link.start()
    app = create_app(
        settings, link, link.status, link.statistics.metrics, Keys(settings), on_stop=link.stop
    )
    server = ServerOfTests(http_config(app, settings))
    worker = TakesAll(link.endpoints[0])
    tasks = [asyncio.create_task(server.serve(sockets=[listener]))]
    working = asyncio.create_task(worker.run())
    await asyncio.to_thread(await_condition, lambda: link.status.readiness().ready, "ready")
    try:
        yield link, server, listener.getsockname()[1]
    finally:
        working.cancel()
        worker.close()
        server.stop.set()
        await asyncio.gather(*tasks)


async def come_and_go(port: int, number: int) -> None:
    """Ask, wait for as many turns of the event loop as the number says, and hang up."""
    _, writer = await asyncio.open_connection("127.0.0.1", port)
    body = json.dumps(question(stream=number % 2 == 0)).encode()
    head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}"
    writer.write(f"{head}\r\nContent-Type: application/json\r\n\r\n".encode() + body)
    await writer.drain()
    for _ in range(number % 40):
        await asyncio.sleep(0)
    writer.transport.abort()
    with contextlib.suppress(OSError):
        await writer.wait_closed()


async def all_come_and_go(link: Link, server: ServerOfTests, port: int, count: int) -> None:
    gate = asyncio.Semaphore(AT_ONCE)

    async def one(number: int) -> None:
        async with gate:
            await come_and_go(port, number)

    await asyncio.gather(*(one(number) for number in range(count)))

    def over() -> bool:
        state, queue = server.server_state, link.status.queue_stats()["queue_stats"]
        under_way = queue["active_requests"] or queue["queue_size"]
        return not (under_way or state.connections or state.tasks)

    await asyncio.to_thread(await_condition, over, "all are gone")


def living() -> Counter[str]:
    gc.collect()
    kinds = Counter(map(type, gc.get_objects()))
    names: Counter[str] = Counter()
    for kind, count in kinds.items():
        names[f"{kind.__module__}.{kind.__qualname__}"] += count
    return names


async def test_cancelled_requests_leave_no_objects_behind() -> None:
    async with serving() as (link, server, port):
        await all_come_and_go(link, server, port, WARM_UP)
        living()  # counting leaves something itself, the first time
        before = living()
        await all_come_and_go(link, server, port, MORE)
        grown = {kind: n for kind, n in (living() - before).items() if n > MOST_LEFT}
        outcomes = link.statistics.outcomes
    assert grown == {}
    assert outcomes["cancelled"] > MORE / 10, "the clients went too early to be cancelled"
    assert outcomes.total() == outcomes["cancelled"]


async def ask_and_reset(port: int) -> None:
    """Ask, read the answer, and end the connection with a reset, as a client that crashes does."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
    await reader.readuntil(b"}")
    raw = writer.get_extra_info("socket")
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


async def test_connections_that_are_reset_between_requests_leave_nothing_behind() -> None:
    async with serving() as (_, server, port):
        await ask_and_reset(port)
        living()  # counting leaves something itself, the first time
        before = living()
        for _ in range(MORE):
            await ask_and_reset(port)
        connections = server.server_state.connections
        await asyncio.to_thread(await_condition, lambda: not connections, "all are gone")
        grown = {kind: n for kind, n in (living() - before).items() if n > MOST_LEFT}
    assert grown == {}

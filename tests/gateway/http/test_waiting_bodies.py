"""Large bodies that wait for memory: unread, in line, and not for ever."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx

from tests.gateway.fake_dispatch import FakeTicket, says
from tests.gateway.serving import Gateway, gateway, question

MIB = 1 << 20
LARGE = question(messages=[{"role": "user", "content": "x" * (3 * MIB)}])
TIGHT: dict[str, Any] = {"max_body_bytes": 4 * MIB, "max_buffered_bytes": 5 * MIB}
"""Room for one of them."""


async def asked(running: Gateway, number: int) -> tuple[asyncio.Task[httpx.Response], FakeTicket]:
    """A large request that has a slot, and holds its memory until the test answers."""
    task = asyncio.create_task(running.chat(**LARGE))
    return task, await running.dispatch.submitted(number)


async def test_a_body_waits_longer_than_clients_may_be_slow() -> None:
    async with gateway(body_timeout=0.2, **TIGHT) as running:
        first, ticket = await asked(running, 0)
        second = asyncio.create_task(running.chat(**LARGE))
        await asyncio.wait([second], timeout=0.5)
        assert not second.done()
        assert len(running.dispatch.tickets) == 1
        assert (await running.client.get("/health")).status_code == 200
        says("Hi")(ticket)
        assert (await first).status_code == 200
        says("Hi")(await running.dispatch.submitted(1))
        assert (await second).status_code == 200
        waited_s = running.dispatch.tickets[1].request.waited_s
    assert 0.4 < waited_s < 10


async def test_a_body_that_waits_for_the_whole_deadline_is_told_so() -> None:
    async with gateway(queue_timeout=0.2, **TIGHT) as running:
        first, ticket = await asked(running, 0)
        second = await running.chat(**LARGE)
        assert (second.status_code, second.json()["error"]["code"]) == (504, "timeout")
        assert "memory" in second.json()["detail"]
        says("Hi")(ticket)
        assert (await first).status_code == 200


async def test_after_its_wait_a_slow_body_is_cut() -> None:
    async with gateway(body_timeout=0.2, **TIGHT) as running:
        first, ticket = await asked(running, 0)
        reader, writer = await running.connect()
        writer.write(
            b"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\n"
            b"content-type: application/json\r\ncontent-length: %d\r\n\r\n{" % (3 * MIB)
        )
        waiting = asyncio.create_task(reader.read(-1))
        await asyncio.wait([waiting], timeout=0.4)
        assert not waiting.done()
        says("Hi")(ticket)
        assert (await first).status_code == 200
        assert b" 408 " in await waiting
        writer.close()


async def test_a_client_that_is_told_to_send_is_told_so_after_its_wait() -> None:
    """With `Expect: 100-continue` it sends nothing before."""
    async with gateway(**TIGHT) as running:
        first, ticket = await asked(running, 0)
        reader, writer = await running.connect()
        writer.write(
            b"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\nexpect: 100-continue\r\n"
            b"content-type: application/json\r\ncontent-length: %d\r\n\r\n" % (3 * MIB)
        )
        line = asyncio.create_task(reader.readline())
        await asyncio.wait([line], timeout=0.2)
        assert not line.done()
        says("Hi")(ticket)
        assert (await first).status_code == 200
        assert (await line).startswith(b"HTTP/1.1 100 ")
        writer.close()

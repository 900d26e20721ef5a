"""The link alone: real sockets in the test's own event loop, simulated workers behind them."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest
import zmq
import zmq.asyncio

from gateway.dispatch.link import Link
from gateway.dispatch.tickets import JobTicket
from gateway.errors import QueueFull
from gateway.generation import Event, GenerationRequest
from gateway.settings import Settings
from scripts.simulated_worker import PROMPT_TOKENS, SimulatedWorker
from shared import wire
from shared.messages import (
    Accepted,
    Cancel,
    Control,
    CountTokens,
    Delta,
    Done,
    FromGateway,
    Job,
    Message,
    Sampling,
    Submit,
    Welcome,
)

TIMEOUT_S = 20.0
ASKED = GenerationRequest(model=None, stream=True, prompts=["p"])


class Wired:
    """A simulated worker at the end of a socket; the test says when it steps."""

    def __init__(self, worker: SimulatedWorker, endpoint: str) -> None:
        self.worker = worker
        self._socket = zmq.asyncio.Context.instance().socket(zmq.DEALER)
        self._socket.setsockopt(zmq.LINGER, 0)
        self._socket.connect(endpoint)

    async def say(self, messages: list[Message]) -> None:
        for message in messages:
            await self._socket.send_multipart(wire.encode(message))

    async def hear(self, kind: type[Message]) -> Message:
        """Take messages, and answer them, up to one of that kind."""
        async with asyncio.timeout(TIMEOUT_S):
            while True:
                message, _ = wire.decode(await self._socket.recv_multipart(), FromGateway)
                await self.say(self.worker.take(message))
                if isinstance(message, kind):
                    return message

    async def step(self, times: int = 1) -> None:
        for _ in range(times):
            await self.say(self.worker.step())

    def close(self) -> None:
        self._socket.close()


@contextlib.asynccontextmanager
async def link() -> AsyncIterator[Link]:
    running = Link(Settings(host="127.0.0.1", bind=("tcp://127.0.0.1:*",)))
    await running.start()
    try:
        yield running
    finally:
        await running.stop()


@contextlib.asynccontextmanager
async def connected(running: Link, name: str) -> AsyncIterator[Wired]:
    wired = Wired(SimulatedWorker(name), running.endpoints[0])
    try:
        await wired.say([wired.worker.hello()])
        await wired.hear(Welcome)
        yield wired
    finally:
        wired.close()


def submit(ticket: JobTicket) -> None:
    job = Job(
        id=ticket.job_id,
        answer_id=ticket.job_id,
        request_id="r",
        model=ticket.model,
        stream=True,
        sampling=Sampling(seed=1),
        prompt="p",
    )
    ticket.submit(job, [])


async def until(ticket: JobTicket, kind: type[Event]) -> list[Event]:
    """All that is told, up to news of that kind."""
    news: list[Event] = []
    async with asyncio.timeout(TIMEOUT_S):
        while not any(isinstance(event, kind) for event in news):
            news += await ticket.next_events()
    return news


def tokens(news: list[Event]) -> list[int]:
    return [token for event in news if isinstance(event, Delta) for token in event.tokens]


async def test_a_request_is_answered_by_the_worker() -> None:
    async with link() as running, connected(running, "a") as worker:
        ticket = running.reserve(ASKED, "r")
        assert ticket.model == "m"
        with pytest.raises(QueueFull):
            running.reserve(ASKED, "r")
        submit(ticket)
        await worker.hear(Submit)
        await worker.step(8)
        news = await until(ticket, Done)
        assert isinstance(news[0], Accepted) and tokens(news) == list(range(8))
        assert running.statistics.outcomes == {"finished": 1}
        assert running.statistics.refusals == {"text_stream": 1}


async def test_a_prompt_is_counted_and_is_no_request() -> None:
    async with link() as running, connected(running, "a") as worker:
        ticket = running.count(ASKED, "r")
        submit(ticket)
        await worker.hear(CountTokens)
        await worker.step()
        assert await until(ticket, Accepted) == [Accepted(ticket.job_id, PROMPT_TOKENS)]
        assert not running.statistics.outcomes


async def test_a_client_that_leaves_is_told_to_the_worker() -> None:
    async with link() as running, connected(running, "a") as worker:
        ticket = running.reserve(ASKED, "r")
        submit(ticket)
        await worker.hear(Submit)
        ticket.cancel()
        await worker.hear(Cancel)
        assert not worker.worker.runs
        assert running.statistics.outcomes == {"cancelled": 1}


async def test_an_answer_goes_on_where_a_closed_connection_left_it() -> None:
    async with (
        link() as running,
        connected(running, "a") as first,
        connected(running, "b") as second,
    ):
        ticket = running.reserve(ASKED, "r")
        submit(ticket)
        holder, other = await who_took_it(first, second)
        await holder.step(3)
        news = await until(ticket, Delta)
        while len(tokens(news)) < 3:
            news += await until(ticket, Delta)
        holder.close()
        await other.hear(Submit)
        await other.step(5)
        news += await until(ticket, Done)
        assert tokens(news) == list(range(8))


async def who_took_it(first: Wired, second: Wired) -> tuple[Wired, Wired]:
    """(the worker that was sent the job, the other)"""
    waits = {asyncio.create_task(wired.hear(Submit)): wired for wired in (first, second)}
    done, pending = await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    for task in pending:
        task.cancel()
    await asyncio.gather(*pending, return_exceptions=True)
    (holder,) = (waits[task] for task in done)
    return holder, second if holder is first else first


async def test_an_order_reaches_the_worker_of_that_name() -> None:
    async with link() as running, connected(running, "a") as worker:
        assert not running.status.order("nobody", "drain")
        assert running.status.order("a", "drain")
        assert await worker.hear(Control) == Control(action="drain")

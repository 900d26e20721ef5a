"""A request handler's end of its job: news in order, nothing lost, acts passed on."""

from __future__ import annotations

import asyncio
import gc
import weakref

import pytest

from gateway.dispatch.core.acts import Abandon, Act, Prepare
from gateway.dispatch.tickets import JobTicket
from gateway.errors import WorkerFailed
from shared.messages import Accepted, Delta, Job, Sampling

ACCEPTED = Accepted(job="j", prompt_tokens=1)
DELTA = Delta("j", 0, 0, [1], "x")


def ticket(acts: list[Act] | None = None) -> JobTicket:
    return JobTicket("j", "m", ([] if acts is None else acts).append)


async def test_news_comes_in_order_and_the_error_after_it() -> None:
    mine = ticket()
    mine.tell([ACCEPTED, DELTA])
    mine.tell([], WorkerFailed("x"))
    assert await mine.next_events() == [ACCEPTED, DELTA]
    for _ in range(2):
        with pytest.raises(WorkerFailed):
            await mine.next_events()


async def test_a_wait_ends_with_the_news() -> None:
    mine = ticket()
    waiting = asyncio.create_task(mine.next_events())
    await asyncio.sleep(0)
    mine.tell([ACCEPTED])
    assert await waiting == [ACCEPTED]


async def test_a_cancelled_wait_loses_nothing() -> None:
    mine = ticket()
    waiting = asyncio.create_task(mine.next_events())
    await asyncio.sleep(0)
    waiting.cancel()
    mine.tell([ACCEPTED])
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert await mine.next_events() == [ACCEPTED]


def test_what_is_asked_goes_to_the_core_under_the_jobs_id() -> None:
    acts: list[Act] = []
    mine = ticket(acts)
    job = Job("j", "j", "r", model="m", stream=False, sampling=Sampling(seed=1), prompt="p")
    mine.submit(job, [b"png"])
    mine.cancel()
    assert acts == [Prepare("j", job, [b"png"]), Abandon("j")]


def test_of_a_job_that_is_over_nothing_can_be_given_up() -> None:
    acts: list[Act] = []
    mine = ticket(acts)
    mine.ended = True
    mine.cancel()
    assert not acts


class Request:
    """What a handler holds while it waits."""


async def test_a_failed_request_goes_with_its_answer() -> None:
    """Not when the garbage collector comes by, which is seldom: its text may be tens of MiB."""
    gone = []

    async def handle(request: Request) -> None:
        mine = ticket()
        mine.tell([], WorkerFailed("x"))
        gone.append(weakref.ref(request))
        try:
            await mine.next_events()
        finally:
            mine.cancel()

    gc.disable()
    try:
        with pytest.raises(WorkerFailed):
            await handle(Request())
        assert gone[0]() is None
    finally:
        gc.enable()

"""Dispatch as a test scripts it: plain classes behind the protocols of `gateway`."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from gateway.errors import ApiError
from gateway.generation import Event, GenerationRequest
from gateway.status import ModelAction, Readiness, ServedModel
from shared.messages import Accepted, Delta, Done, Job, Timings, Usage

Script = Callable[["FakeTicket"], None]


def accepted() -> Accepted:
    return Accepted(job="job", prompt_tokens=7)


def delta(text: str = "", choice: int = 0, **fields: Any) -> Delta:
    return Delta(job="job", sequence=0, choice=choice, tokens=[1], text=text, **fields)


def done(completion_tokens: int = 2, **usage: int) -> Done:
    return Done(
        job="job",
        usage=Usage(prompt_tokens=7, completion_tokens=completion_tokens, **usage),
        timings=Timings(prefill_s=0.25, total_s=0.5),
    )


def says(*pieces: str) -> Script:
    """A job that goes well and answers with these pieces, each an event of its own."""

    def script(ticket: FakeTicket) -> None:
        *most, last = pieces
        ticket.tell(accepted(), *map(delta, most), delta(last, finish_reason="stop"), done())

    return script


class FakeTicket:
    """Implements `gateway.generation.Ticket`; the test is the worker."""

    def __init__(self, number: int, request: GenerationRequest, script: Script | None) -> None:
        self.job_id = f"job{number}"
        self.model = request.model or "fake"
        self.request = request
        self.job: Job | None = None
        self.images: Sequence[bytes] = ()
        self.only_counts = False
        self.submitted = asyncio.Event()
        self.cancelled = asyncio.Event()
        self._script = script
        self._events: deque[Event] = deque()
        self._error: ApiError | None = None
        self._news = asyncio.Event()

    # the handler's side

    def submit(self, job: Job, images: Sequence[bytes]) -> None:
        self.job, self.images = job, images
        self.submitted.set()
        if self._script is not None:
            self._script(self)

    async def next_events(self) -> list[Event]:
        await self._news.wait()
        if self._events:
            events = list(self._events)
            self._events.clear()
            if self._error is None:
                self._news.clear()
            return events
        assert self._error is not None
        raise self._error

    def cancel(self) -> None:
        self.cancelled.set()

    # the test's side

    def tell(self, *events: Event) -> None:
        self._events.extend(events)
        self._news.set()

    def fail(self, error: ApiError) -> None:
        self._error = error
        self._news.set()


class FakeDispatch:
    """Implements `gateway.generation.Dispatch`."""

    def __init__(self, script: Script | None = None) -> None:
        self.script = script
        self.refusal: ApiError | None = None
        self.request_ids: list[str] = []
        self.tickets: list[FakeTicket] = []
        self._arrived = asyncio.Event()

    def reserve(self, request: GenerationRequest, request_id: str) -> FakeTicket:
        self.request_ids.append(request_id)
        if self.refusal is not None:
            raise self.refusal
        ticket = FakeTicket(len(self.tickets), request, self.script)
        self.tickets.append(ticket)
        self._arrived.set()
        return ticket

    def count(self, request: GenerationRequest, request_id: str) -> FakeTicket:
        ticket = self.reserve(request, request_id)
        ticket.only_counts = True
        return ticket

    async def reserved(self, number: int = 0) -> FakeTicket:
        """Wait for the job that has so many before it."""
        async with asyncio.timeout(5):
            while len(self.tickets) <= number:
                self._arrived.clear()
                await self._arrived.wait()
        return self.tickets[number]

    async def submitted(self, number: int = 0) -> FakeTicket:
        """Wait for the job that has so many before it to be submitted."""
        ticket = await self.reserved(number)
        async with asyncio.timeout(5):
            await ticket.submitted.wait()
        return ticket


class FakeStatus:
    """Implements `gateway.status.Status`."""

    def __init__(self) -> None:
        self.state = Readiness(ready=True, workers=[{"id": "w1", "state": "ready"}])
        self.orders: list[tuple[str, str]] = []
        self.refusal: ApiError | None = None
        self.failure: ApiError | None = None
        self.looks = 0
        """How often it was asked whether an order to a model is pending: it is, twice."""

    def models(self) -> list[ServedModel]:
        return [
            ServedModel("org/fake", 1_700_000_000, 4096, vision=True, proven={"text": True}),
            ServedModel("demo", created=1_700_000_000, context_tokens=None, vision=False),
        ]

    def model(self, name: str) -> ServedModel | None:
        return next((model for model in self.models() if model.id == name), None)

    def order_model(self, name: str, action: ModelAction) -> None:
        self.orders.append((name, action))
        if self.refusal is not None:
            raise self.refusal

    def is_pending(self, name: str, action: ModelAction) -> bool:
        self.looks += 1
        return self.looks < 3

    def load_failure(self, name: str) -> ApiError | None:
        return self.failure

    def readiness(self) -> Readiness:
        return self.state

    def queue_stats(self) -> dict[str, Any]:
        return {"status": "ok", "queue_stats": {"running": True}}

    def recent_requests(self) -> list[dict[str, Any]]:
        return []

    def metrics_text(self) -> bytes:
        return b"gateway_requests_total 0\n"

    def order(self, worker_id: str, action: str) -> bool:
        self.orders.append((worker_id, action))
        return any(worker["id"] == worker_id for worker in self.state.workers)

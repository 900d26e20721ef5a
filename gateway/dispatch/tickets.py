"""A request handler's end of its job: where it hears the news, and what it may ask."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from gateway.dispatch.core.acts import Abandon, Act, Prepare
from gateway.errors import ApiError
from gateway.generation import Event
from shared.messages import Job


class JobTicket:
    """Implements `gateway.generation.Ticket`; `perform` takes its acts to the core."""

    def __init__(self, job_id: str, model: str, perform: Callable[[Act], None]) -> None:
        self.job_id = job_id
        self.model = model
        self.ended = False
        """Whether the job is over, and with it all that could be given up."""
        self._perform = perform
        self._events: list[Event] = []
        self._error: ApiError | None = None
        self._news: asyncio.Future[None] | None = None

    def submit(self, job: Job, images: Sequence[bytes]) -> None:
        self._perform(Prepare(self.job_id, job, images))

    def cancel(self) -> None:
        # Its traceback holds whoever waited, and so the whole request beyond its answer.
        self._error = None
        if not self.ended:
            self._perform(Abandon(self.job_id))

    async def next_events(self) -> list[Event]:
        while not self._events:
            if self._error is not None:
                raise self._error
            self._news = asyncio.get_running_loop().create_future()
            await self._news
        events, self._events = self._events, []
        return events

    def tell(self, events: Sequence[Event], error: ApiError | None = None) -> None:
        self._events.extend(events)
        if error is not None:
            self._error = error
        if self._news is not None and not self._news.done():
            self._news.set_result(None)

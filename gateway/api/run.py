"""What happens to a request before there is anything to show: admitted, prepared, handed over."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Any, TypeVar

from starlette.types import Scope

from gateway.api.held import bytes_beside_body
from gateway.api.job import to_job
from gateway.api.prompts import reserve_each
from gateway.errors import ApiError
from gateway.generation import Dispatch, Event, GenerationRequest, Ticket
from gateway.http.connection import UntilGone
from gateway.images.inspect import LoadedImage
from gateway.images.loader import ImageLoader
from gateway.memory import LARGE_BYTES, memory_of
from shared.messages import Accepted, Done

HEADERS_AFTER_ACCEPTED_S = 1.0

T = TypeVar("T")


@dataclass(frozen=True)
class Runner:
    """Runs the requests of all dialects."""

    dispatch: Dispatch
    images: ImageLoader

    def admit(self, generation: GenerationRequest, request_id: str) -> Ticket:
        """Take a slot or a place in the queue, before any image is touched. The caller cancels
        the ticket in the end. Raises as `Dispatch.reserve` does."""
        if len(generation.prompts) < 2:
            return self.dispatch.reserve(generation, request_id)
        return reserve_each(generation, lambda one: self.dispatch.reserve(one, request_id))

    async def submit(
        self, ticket: Ticket, generation: GenerationRequest, scope: Scope, repeated_bytes: int = 0
    ) -> None:
        """Fetch and check the images, then hand over the job, once there is memory for both and for
        the answer. Raises as `ImageLoader.load`.

        Args:
            repeated_bytes: what of the request its answer repeats.
        """
        memory = memory_of(scope)
        more_bytes = bytes_beside_body(generation, memory.held_bytes, repeated_bytes)
        loaded: list[list[LoadedImage]] = []
        try:
            if more_bytes >= LARGE_BYTES:
                await unless_over(ticket, memory.hold_when_free(more_bytes))
            elif more_bytes:
                memory.take(more_bytes)
            if generation.images:
                loading = self.images.load(generation.images, memory)
                loaded = await unless_over(ticket, loading)
        finally:
            memory.has_grown()
        infos = [[info for info, _ in images] for images in loaded]
        job = to_job(generation, infos, ticket, scope["state"]["request_id"])
        ticket.submit(job, [data for images in loaded for _, data in images])

    async def count(self, generation: GenerationRequest, scope: Scope) -> int:
        """Return how long the prompt is, as a worker counts it: outside all slots.

        Raises:
            ApiError: as for any generation.
            ClientGone: nobody waits for the number any more.
        """
        request_id = scope["state"]["request_id"]
        with UntilGone(scope):
            ticket = self.dispatch.count(generation, request_id)
            try:
                await self.submit(ticket, generation, scope)
                accepted = [e for e in await ticket.next_events() if isinstance(e, Accepted)]
                return accepted[0].prompt_tokens
            except ApiError as error:
                raise in_dialect(error, generation) from None
            finally:
                ticket.cancel()


async def unless_over(ticket: Ticket, work: Coroutine[Any, Any, T]) -> T:
    """Do the work, unless the job ends meanwhile. Raises what ended it: its deadline."""
    working = asyncio.create_task(work)
    ending = asyncio.create_task(ticket.next_events())
    try:
        await asyncio.wait({working, ending}, return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            ending.result()
        return await working
    finally:
        working.cancel()
        ending.cancel()
        del working, ending  # An error in them holds this frame: the request would outlive it.


async def first_events(ticket: Ticket) -> list[Event]:
    """Wait until the job goes well; return its events so far.

    Raises:
        ApiError: it does not go well; there is still time for an HTTP status.
    """
    events = await ticket.next_events()
    headers_at = asyncio.get_running_loop().time() + HEADERS_AFTER_ACCEPTED_S
    try:
        async with asyncio.timeout_at(headers_at):
            while all(isinstance(event, Accepted) for event in events):
                events += await ticket.next_events()
    except TimeoutError:
        pass
    return events


def is_end(events: list[Event]) -> bool:
    return bool(events) and isinstance(events[-1], Done)


def in_dialect(error: ApiError, generation: GenerationRequest) -> ApiError:
    """Name the field at fault as the client does."""
    if error.param is not None:
        error.param = generation.renamed.get(error.param, error.param)
    return error

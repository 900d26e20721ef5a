"""The one path of every generation, whatever dialect it came in and whether it streams.

reserve (a slot, a place in the queue, or a refusal) → fetch and check images → submit → events.

A refusal is always an HTTP status, never an error inside a 200: a stream's headers are sent only
when its job goes well, which is at its first token, or one second after a worker has accepted it
(long prefills must not look like a dead server). What fails later is an event that ends the
stream, with no finish reason after it.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Any, TypeVar

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from gateway.api.common.answer import Answer
from gateway.api.common.render import Identity, Renderer, Stream
from gateway.errors import ApiError
from gateway.generation import Dispatch, Event, GenerationRequest, Ticket
from gateway.http.connection import UntilGone
from gateway.http.error_body import stopping
from gateway.http.sse import EventWriter
from gateway.images.loader import ImageLoader, LoadedImage
from gateway.settings import Settings
from shared.messages import Accepted, Done, ImageInfo, Job, Sampling

HEADERS_AFTER_ACCEPTED_S = 1.0

SEED_BYTES = 6
"""Every JSON reader can hold such a number."""

T = TypeVar("T")


@dataclass(frozen=True)
class Generator:
    """Runs generations for all dialects."""

    dispatch: Dispatch
    images: ImageLoader
    settings: Settings

    def respond(
        self, request: Request, generation: GenerationRequest, renderer: Renderer
    ) -> Response:
        """Return the response that will carry the generation from admission to its last byte."""
        return GenerationResponse(self, generation, renderer, request.scope["state"]["request_id"])

    async def count_tokens(self, request: Request, generation: GenerationRequest) -> int:
        """Return how long the prompt is, as a worker counts it: outside all slots.

        Raises:
            ApiError: as for any generation.
            ClientGone: nobody waits for the number any more.
        """
        with UntilGone(request.scope):
            ticket = self.dispatch.count(generation, request.state.request_id)
            try:
                await self.submit(ticket, generation, request.state.request_id)
                accepted = [e for e in await ticket.next_events() if isinstance(e, Accepted)]
                return accepted[0].prompt_tokens
            except ApiError as error:
                raise in_dialect(error, generation) from None
            finally:
                ticket.cancel()

    async def submit(self, ticket: Ticket, generation: GenerationRequest, request_id: str) -> None:
        """Fetch and check the images, then hand over the job. Raises InvalidImage."""
        loaded: list[LoadedImage] = []
        if generation.images:
            loaded = await unless_over(ticket, self.images.load(generation.images))
        infos = [info for info, _ in loaded]
        job = to_job(generation, infos, ticket, request_id)
        ticket.submit(job, [data for _, data in loaded])


class GenerationResponse(Response):
    """An ASGI response that does the work itself, so that one block holds the slot, the job and
    the watch for a client that leaves."""

    def __init__(
        self,
        generator: Generator,
        generation: GenerationRequest,
        renderer: Renderer,
        request_id: str,
    ) -> None:
        # Without `super().__init__()`: it builds headers and body of an answer that is there.
        self._generator = generator
        self._generation = generation
        self._renderer = renderer
        self._request_id = request_id

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Raises ApiError as long as no header has been sent, ClientGone at any time."""
        with UntilGone(scope):
            ticket = self._generator.dispatch.reserve(self._generation, self._request_id)
            try:
                await self._generator.submit(ticket, self._generation, self._request_id)
                identity = Identity(ticket.job_id, ticket.model)
                if self._generation.stream:
                    await self._send_stream(ticket, identity, scope, send)
                else:
                    await self._send_whole(ticket, identity, send)
            except ApiError as error:
                raise in_dialect(error, self._generation) from None
            finally:
                ticket.cancel()

    async def _send_whole(self, ticket: Ticket, identity: Identity, send: Send) -> None:
        answer = Answer(self._generation.choices)
        while not answer.done:
            answer.add(await ticket.next_events())
        body = self._renderer.whole(identity, answer)
        headers = [
            (b"content-type", b"application/json"),
            (b"content-length", str(len(body)).encode()),
        ]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    async def _send_stream(
        self, ticket: Ticket, identity: Identity, scope: Scope, send: Send
    ) -> None:
        settings = self._generator.settings
        events = await first_events(ticket)
        stream = self._renderer.stream(identity)
        writer = EventWriter(
            scope,
            send,
            write_timeout_s=settings.write_timeout,
            keep_alive_s=settings.keep_alive_interval,
        )
        try:
            await writer.start()
            await self._pump(ticket, stream, writer, events)
        finally:
            writer.close()

    async def _pump(
        self, ticket: Ticket, stream: Stream, writer: EventWriter, events: list[Event]
    ) -> None:
        """Write events until the last; `events` are the first ones."""
        opening = stream.begin()
        try:
            while not is_end(events):
                await writer.write(opening + stream.events(events))
                opening = b""
                events = await writer.keep_alive_until(ticket.next_events)
            await writer.write(opening + stream.events(events), last=True)
        except ApiError as error:
            await writer.write(stream.error(in_dialect(error, self._generation)), last=True)
        except asyncio.CancelledError:
            # The server is being stopped, or else nobody is there to read this.
            await writer.write(stream.error(stopping()), last=True)
            raise


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


def in_dialect(error: ApiError, generation: GenerationRequest) -> ApiError:
    """Name the field at fault as the client does."""
    if error.param is not None:
        error.param = generation.renamed.get(error.param, error.param)
    return error


def is_end(events: list[Event]) -> bool:
    return bool(events) and isinstance(events[-1], Done)


def to_job(
    generation: GenerationRequest, images: list[ImageInfo], ticket: Ticket, request_id: str
) -> Job:
    """Return what goes over the wire. A seed that was left open is drawn here, once, so that
    the job can be resumed elsewhere with the same one."""
    sampling = generation.sampling
    seed = sampling.seed
    if seed is None:
        seed = int.from_bytes(os.urandom(SEED_BYTES), "little")
    return Job(
        id=ticket.job_id,
        answer_id=ticket.job_id,
        request_id=request_id,
        model=ticket.model,
        stream=generation.stream,
        sampling=Sampling(
            seed=seed,
            temperature=sampling.temperature,
            top_p=sampling.top_p,
            top_k=sampling.top_k,
            min_p=sampling.min_p,
            repetition_penalty=sampling.repetition_penalty,
            presence_penalty=sampling.presence_penalty,
            frequency_penalty=sampling.frequency_penalty,
            logit_bias=sampling.logit_bias,
        ),
        messages=generation.messages,
        prompt=generation.prompt,
        continue_final_message=generation.continue_final_message,
        images=images,
        max_tokens=generation.max_tokens,
        stop=generation.stop,
        choices=generation.choices,
        logprobs=generation.logprobs,
        response_format=generation.response_format,
        tool_policy=generation.tool_policy,
        template_options=generation.template_options,
        cache_salt=generation.tenant,
        ignore_eos=generation.ignore_eos,
        echo=generation.echo,
    )

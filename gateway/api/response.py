"""A generation from its admission to the last byte of its answer.

A refusal is always an HTTP status, never an error inside a 200: a stream's headers are sent only
when its job goes well, which is at its first token, or one second after a worker has accepted it
(long prefills must not look like a dead server). What fails later is an event that ends the
stream, with no finish reason after it.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from gateway.api.common.answer import CollectedAnswer
from gateway.api.common.render import Identity, Renderer, Stream
from gateway.api.run import Runner, first_events, in_dialect, is_end
from gateway.errors import ApiError
from gateway.generation import Event, GenerationRequest, Ticket
from gateway.http.connection import UntilGone
from gateway.http.error_body import stopping
from gateway.http.pieces import PIECE_BYTES, send_body
from gateway.http.sse import EventWriter
from gateway.settings import Settings
from shared.messages import Accepted

UNENFORCED = b"x-schema-unenforced"
_FOREIGN = re.compile(r"[^A-Za-z0-9_.:$-]")
_MOST_CHARACTERS = 64


def unenforced_header(names: Sequence[str]) -> list[tuple[bytes, bytes]]:
    """Return the header that names what of a schema the worker takes for a remark, if anything."""
    # A worker's words, made of a client's.
    clean = [_FOREIGN.sub("_", name[:_MOST_CHARACTERS]) for name in names]
    return [(UNENFORCED, ", ".join(clean).encode())] if clean else []


class GenerationResponse(Response):
    """An ASGI response that does the work itself, so that one block holds the slot, the job and
    the watch for a client that leaves."""

    def __init__(
        self,
        runner: Runner,
        settings: Settings,
        generation: GenerationRequest,
        renderer: Renderer,
    ) -> None:
        # Without `super().__init__()`: it builds headers and body of an answer that is there.
        self._runner = runner
        self._settings = settings
        self._generation = generation
        self._renderer = renderer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Raises ApiError as long as no header has been sent, ClientGone at any time."""
        request_id = scope["state"]["request_id"]
        with UntilGone(scope):
            ticket = self._runner.admit(self._generation, request_id)
            try:
                repeated_bytes = self._renderer.repeated_bytes
                await self._runner.submit(ticket, self._generation, scope, repeated_bytes)
                identity = Identity(ticket.job_id, ticket.model)
                if self._generation.stream:
                    await self._send_stream(ticket, identity, scope, send)
                else:
                    await self._send_answer(ticket, identity, send)
            except ApiError as error:
                raise in_dialect(error, self._generation) from None
            finally:
                ticket.cancel()

    async def _send_answer(self, ticket: Ticket, identity: Identity, send: Send) -> None:
        answer = CollectedAnswer(self._generation.answers)
        while not answer.done:
            answer.add(await ticket.next_events())
        body = self._renderer.non_streaming(identity, answer)
        headers = [
            (b"content-type", b"application/json"),
            (b"content-length", str(len(body)).encode()),
            *unenforced_header(answer.unenforced),
        ]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send_body(send, body)

    async def _send_stream(
        self, ticket: Ticket, identity: Identity, scope: Scope, send: Send
    ) -> None:
        events = await first_events(ticket)
        names = next((event.unenforced for event in events if isinstance(event, Accepted)), [])
        stream = self._renderer.stream(identity)
        writer = EventWriter(
            scope,
            send,
            write_timeout_s=self._settings.write_timeout,
            keep_alive_s=self._settings.keep_alive_interval,
        )
        try:
            await writer.start(unenforced_header(names))
            await self._pump(ticket, stream, writer, events)
        finally:
            writer.close()

    async def _pump(
        self, ticket: Ticket, stream: Stream, writer: EventWriter, events: list[Event]
    ) -> None:
        """Write events until the last; `events` are the first ones."""
        opening = stream.begin()
        try:
            if len(opening) > PIECE_BYTES:
                await writer.write(opening)
                opening = b""
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

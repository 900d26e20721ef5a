"""What the core wants done: messages to send, news to tell, jobs that are over."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from gateway.dispatch.core.jobs import JobRecord
from gateway.errors import ApiError
from gateway.generation import Event
from shared.messages import Message


class Send(msgspec.Struct, frozen=True):
    """A message for one worker session; `images` follow as frames."""

    routing_id: bytes
    message: Message
    images: Sequence[bytes] = ()


class Tell(msgspec.Struct, frozen=True):
    """News for the request's handler: events in their order, or the error that ends it."""

    job_id: str
    events: Sequence[Event] = ()
    error: ApiError | None = None


class Ended(msgspec.Struct, frozen=True):
    """A job is over, and nothing more is told about it; `record` has its outcome and milestones."""

    record: JobRecord


Effect = Send | Tell | Ended

"""What all messages share: the numbers and words of their fields, and their class."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, ClassVar, Literal, TypeVar

import msgspec

WorkerState = Literal["loading", "ready", "draining"]
FinishReason = Literal["stop", "length", "tool_calls"]
RejectReason = Literal["no_slot", "draining", "loading", "unknown_model"]
FailureCode = Literal[
    "invalid_request",
    "invalid_image",
    "context_length_exceeded",
    "unsupported_parameter",
    "out_of_memory",
    "internal_error",
]
WorkerAction = Literal["drain", "resume", "restart"]
ModelStatus = Literal["unloaded", "downloading", "loading", "loaded", "failed"]
ModelRoom = Literal["free", "idle", "busy", "pinned", "never"]

# Numbers as far as they make sense. A message with any other is malformed: what a peer claims is
# checked once, where it comes in, and never reaches a counter or an index.
Count = Annotated[int, msgspec.Meta(ge=0, le=2**53)]
Amount = Annotated[float, msgspec.Meta(ge=0, le=1e12)]
Number = Annotated[float, msgspec.Meta(ge=-1e9, le=1e9)]
Gauge = Annotated[float, msgspec.Meta(ge=-1e15, le=1e15)]
Small = Annotated[int, msgspec.Meta(ge=0, lt=2**31)]
TokenId = Small
MAX_SLOTS = 4096
SlotCount = Annotated[int, msgspec.Meta(ge=0, le=MAX_SLOTS)]
HeldJobs = Annotated[list[str], msgspec.Meta(max_length=MAX_SLOTS)]
"""As many as a worker has slots of a kind."""
CancelledJobs = Annotated[list[str], msgspec.Meta(max_length=2 * MAX_SLOTS)]
"""As many as a worker can hold; each may bring an answer, so that more would be a flood."""
ChoiceCount = Annotated[int, msgspec.Meta(ge=1, le=128)]
LogprobCount = Annotated[int, msgspec.Meta(ge=0, le=128)]
Interval = Annotated[float, msgspec.Meta(ge=0.01, le=60)]


class Record(msgspec.Struct, frozen=True, omit_defaults=True):
    """A map on the wire. Fields left at their default are not sent; unknown fields are ignored."""


class Message(Record):
    """What is sent by itself; what the wire has to know of each kind stands in its class.

    Never reuse or renumber a `type_code`: old peers are told apart by them.
    """

    type_code: ClassVar[int]
    max_body_bytes: ClassVar[int] = 64 << 10
    """The longest MessagePack frame."""
    max_containers: ClassVar[int] = 1 << 17
    """Most arrays and maps in it: each is one byte on the wire and up to 64 in memory. A step's
    `Deltas` with 20 log-probabilities a token have a tenth of that."""
    has_integer_keys: ClassVar[bool] = False
    """Whether keys may be other than strings. Whoever chooses integers can choose such as collide
    in a dictionary, which takes ages; strings are hashed with a secret."""

    @property
    def attachments(self) -> int:
        """How many raw frames follow the MessagePack."""
        return 0


class FromWorker(Message):
    """A worker to its gateway."""


class FromGateway(Message):
    """A gateway to its worker."""


M = TypeVar("M", bound=Message)


def kinds(sender: type[M]) -> Iterator[type[M]]:
    """The kinds of `Message` that `FromWorker` or `FromGateway` sends, or both: all with a code."""
    for kind in sender.__subclasses__():
        if "type_code" in vars(kind):
            yield kind
        yield from kinds(kind)

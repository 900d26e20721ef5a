"""Messages to frames and back.

Frame 0: two bytes, the protocol version and the message's type code.
Frame 1: the message's fields as MessagePack.
Frame 2 and on: attachments, raw: the job's images, in order (only `Submit` and `CountTokens`
have any).

`msgpack` knows the bytes, `msgspec` the types and their bounds.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Any, TypeVar, cast

import msgpack
import msgspec

from shared.messages import (
    MAX_BODY_BYTES,
    MAX_SHORT_BODY_BYTES,
    TYPE_CODES,
    CountTokens,
    Message,
    Submit,
)

VERSION = 1
MAX_ATTACHMENTS = 64
MAX_CONTAINERS = 1 << 17
"""How many arrays and maps a message without a job may have: each is one byte on the wire and up
to 64 in memory. A step's `Deltas` with 20 log-probabilities a token have a tenth of that."""
MAX_REASON_CHARACTERS = 200

_headers = {message_type: bytes((VERSION, code)) for message_type, code in TYPE_CODES.items()}
_types = {code: message_type for message_type, code in TYPE_CODES.items()}
_with_a_job = (Submit, CountTokens)

Buffer = bytes | memoryview
Container = TypeVar("Container", list[Any], dict[Any, Any])


class ProtocolError(ValueError):
    """The peer sent something that is not a message of this protocol."""


class VersionMismatch(ProtocolError):
    """The peer speaks another version of this protocol."""


def encode(message: Message) -> list[bytes]:
    """Return the header and body frames; attachments are appended by the caller."""
    # A packer of our own would save 0.3 µs and keep the memory of the longest message for ever.
    body: bytes = msgpack.packb(msgspec.to_builtins(message))
    return [_headers[type(message)], body]


def decode(
    frames: Sequence[Buffer], expected: Collection[type[Any]] = frozenset(TYPE_CODES)
) -> tuple[Message, list[Buffer]]:
    """Return the message and its attachments.

    Args:
        expected: the messages that this peer may send (`FROM_WORKER` or `FROM_GATEWAY`).

    Raises:
        VersionMismatch: the version byte is another one.
        ProtocolError: anything else that is not a well-formed message. No other error escapes,
            whatever the bytes.
    """
    if len(frames) < 2:
        raise ProtocolError(f"expected at least 2 frames, got {len(frames)}")
    header = bytes(frames[0][:3])
    if len(header) != 2:
        raise ProtocolError("the header frame must be two bytes")
    version, code = header
    if version != VERSION:
        raise VersionMismatch(f"peer speaks version {version}, this side version {VERSION}")
    message_type = _types.get(code)
    if message_type is None or message_type not in expected:
        raise ProtocolError(f"unknown message type {code}")
    limit = MAX_BODY_BYTES.get(message_type, MAX_SHORT_BODY_BYTES)
    if len(frames[1]) > limit:
        raise ProtocolError(f"a {message_type.__name__} has at most {limit} bytes")
    message = _decode_body(frames[1], message_type)
    attachments = list(frames[2:])
    images = len(message.job.images) if isinstance(message, Submit | CountTokens) else 0
    if images > MAX_ATTACHMENTS:
        raise ProtocolError(f"a job has at most {MAX_ATTACHMENTS} images, got {images}")
    if len(attachments) != images:
        raise ProtocolError(f"expected {images} attachments, got {len(attachments)}")
    return message, attachments


def _decode_body(body: Buffer, message_type: type[Any]) -> Message:
    try:
        return cast(Message, msgspec.convert(_unpack(body, message_type), message_type))
    except (ValueError, TypeError) as error:  # TypeError: a key that cannot be one, as a map
        reason = str(error)[:MAX_REASON_CHARACTERS] or type(error).__name__
        raise ProtocolError(f"malformed {message_type.__name__}: {reason}") from error
    except RecursionError as error:
        raise ProtocolError(f"malformed {message_type.__name__}: nested too deeply") from error


def _unpack(body: Buffer, message_type: type[Any]) -> Any:
    counting: dict[str, Any] = {}
    if len(body) > MAX_CONTAINERS and message_type not in _with_a_job:
        # A shorter body cannot have too many, so that only long ones pay for a call each.
        count = _counter(MAX_CONTAINERS)
        counting = {"list_hook": count, "object_hook": count}
    # Timestamps do not go through the hook, so that extensions have no room, either.
    return msgpack.unpackb(
        body, strict_map_key=False, ext_hook=_refuse_extension, max_ext_len=0, **counting
    )


def _counter(most: int) -> Callable[[Container], Container]:
    left = most

    def count(container: Container) -> Container:
        nonlocal left
        left -= 1
        if left < 0:
            raise ValueError(f"it has more than {most} arrays and maps")
        return container

    return count


def _refuse_extension(code: int, data: bytes) -> Any:
    raise ValueError(f"extension type {code} is not part of this protocol")

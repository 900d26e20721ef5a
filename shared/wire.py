"""Messages to frames and back.

Frame 0: two bytes, the protocol version and the message's type code.
Frame 1: the message's fields as MessagePack.
Frame 2 and on: attachments, raw: as many as the message's class says.

`msgpack` knows the bytes, `msgspec` the types and their bounds.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import msgpack
import msgspec

from shared.messages import M, Message, kinds

VERSION = 1
MAX_ATTACHMENTS = 64
MAX_REASON_CHARACTERS = 200

_types = {kind.type_code: kind for kind in kinds(Message)}
_headers = {kind: bytes((VERSION, code)) for code, kind in _types.items()}

Buffer = bytes | memoryview
Container = TypeVar("Container", list[Any], dict[Any, Any])


class ProtocolError(ValueError):
    """The peer sent something that is not a message of this protocol."""


class VersionMismatch(ProtocolError):
    """The peer speaks another version of this protocol."""


class MessageTooLong(ValueError):
    """A message of this side's own is longer than its receiver would take."""


def encode(message: Message) -> list[bytes]:
    """Return the header and body frames; attachments are appended by the caller.

    Raises:
        MessageTooLong: it must not be sent. A receiver would drop it, or close the connection.
    """
    # A packer of our own would save 0.3 µs and keep the memory of the longest message for ever.
    kind = type(message)
    body: bytes = msgpack.packb(msgspec.to_builtins(message))
    if len(body) > kind.max_body_bytes:
        raise MessageTooLong(
            f"a {kind.__name__} has at most {kind.max_body_bytes} bytes, this one {len(body)}"
        )
    return [_headers[kind], body]


def packed_bytes(value: Any) -> int:
    """How long a field's value is on the wire."""
    return len(msgpack.packb(msgspec.to_builtins(value)))


def decode(frames: Sequence[Buffer], sender: type[M]) -> tuple[M, list[Buffer]]:
    """Return the message and its attachments.

    Args:
        sender: what this peer may send: `FromWorker`, `FromGateway`, or any `Message`.

    Raises:
        VersionMismatch: the version byte is another one.
        ProtocolError: anything else that is not a well-formed message. No other error escapes,
            whatever the bytes.
    """
    if len(frames) < 2:
        raise ProtocolError(f"expected at least 2 frames, got {len(frames)}")
    kind = _kind(frames[0], sender)
    if len(frames[1]) > kind.max_body_bytes:
        raise ProtocolError(f"a {kind.__name__} has at most {kind.max_body_bytes} bytes")
    message = _decode_body(frames[1], kind)
    attachments, expected = list(frames[2:]), message.attachments
    if expected > MAX_ATTACHMENTS:
        raise ProtocolError(f"a job has at most {MAX_ATTACHMENTS} images, got {expected}")
    if len(attachments) != expected:
        raise ProtocolError(f"expected {expected} attachments, got {len(attachments)}")
    return message, attachments


def _kind(frame: Buffer, sender: type[M]) -> type[M]:
    header = bytes(frame[:3])
    if len(header) != 2:
        raise ProtocolError("the header frame must be two bytes")
    version, code = header
    if version != VERSION:
        raise VersionMismatch(f"peer speaks version {version}, this side version {VERSION}")
    kind = _types.get(code)
    if kind is None or not issubclass(kind, sender):
        raise ProtocolError(f"unknown message type {code}")
    return kind


def _decode_body(body: Buffer, kind: type[M]) -> M:
    try:
        return msgspec.convert(_unpack(body, kind), kind)
    except (ValueError, TypeError) as error:  # TypeError: a key that cannot be one, as a map
        reason = str(error)[:MAX_REASON_CHARACTERS] or type(error).__name__
        raise ProtocolError(f"malformed {kind.__name__}: {reason}") from error
    except RecursionError as error:
        raise ProtocolError(f"malformed {kind.__name__}: nested too deeply") from error


def _unpack(body: Buffer, kind: type[Message]) -> Any:
    counting: dict[str, Any] = {}
    if len(body) > kind.max_containers:
        # A shorter body cannot have too many, so that only long ones pay for a call each.
        count = _counter(kind.max_containers)
        counting = {"list_hook": count, "object_hook": count}
    return msgpack.unpackb(
        body,
        strict_map_key=not kind.has_integer_keys,
        ext_hook=_refuse_extension,
        max_ext_len=0,  # for timestamps, which do not go through the hook
        **counting,
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

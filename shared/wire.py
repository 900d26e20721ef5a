"""Messages to frames and back.

Frame 0: two bytes, the protocol version and the message's type code.
Frame 1: the message's fields as MessagePack.
Frame 2 and on: attachments, raw: the job's images, in order (only `Submit` and `CountTokens`
have any).
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any, cast

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
MAX_REASON_CHARACTERS = 200

_encode = msgspec.msgpack.Encoder().encode
_headers = {message_type: bytes((VERSION, code)) for message_type, code in TYPE_CODES.items()}
_types = {code: message_type for message_type, code in TYPE_CODES.items()}
_decoders = {message_type: msgspec.msgpack.Decoder(message_type) for message_type in TYPE_CODES}

Buffer = bytes | memoryview


class ProtocolError(ValueError):
    """The peer sent something that is not a message of this protocol."""


class VersionMismatch(ProtocolError):
    """The peer speaks another version of this protocol."""


def encode(message: Message) -> list[bytes]:
    """Return the header and body frames; attachments are appended by the caller."""
    return [_headers[type(message)], _encode(message)]


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
        return cast(Message, _decoders[message_type].decode(body))
    except (msgspec.DecodeError, ValueError) as error:
        reason = str(error)[:MAX_REASON_CHARACTERS]
        raise ProtocolError(f"malformed {message_type.__name__}: {reason}") from error
    except RecursionError as error:
        raise ProtocolError(f"malformed {message_type.__name__}: nested too deeply") from error

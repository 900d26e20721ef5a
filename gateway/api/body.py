"""Reading a JSON body: bounded while it is read, and only when it says that it is JSON."""

from __future__ import annotations

from starlette.requests import ClientDisconnect, Request

from gateway.api.client import ClientGone
from gateway.errors import BodyTooLarge, InvalidRequest, UnsupportedMediaType

JSON_MARKS = (b",", b"[", b"{")
MAX_JSON_MARKS = 250_000
"""Each value of a JSON text stands after one of these, and each takes time and memory: 12 MB of
`[],` measured 4.3 s and 600 MB to parse, which would stop every other request for so long."""


async def read_json_body(request: Request, max_bytes: int) -> bytes:
    """Return the body, unparsed.

    Raises:
        UnsupportedMediaType: not declared as JSON. A web page of another origin can post forms
            and plain text without asking; JSON it cannot.
        InvalidRequest: more values than any request needs.
        BodyTooLarge: more than `max_bytes`, as declared or as read.
        ClientGone: the client left before the end.
    """
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type != "application/json":
        raise UnsupportedMediaType(
            "Send the request as JSON, with the header 'Content-Type: application/json'."
        )
    if request.headers.get("content-encoding", "identity").lower() != "identity":
        raise UnsupportedMediaType("Send the request body uncompressed.")
    declared = request.headers.get("content-length", "")
    if declared.isdigit() and int(declared) > max_bytes:
        raise _too_large(max_bytes)
    chunks: list[bytes] = []
    size = marks = 0
    try:
        async for chunk in request.stream():
            size += len(chunk)
            if size > max_bytes:
                raise _too_large(max_bytes)
            marks += sum(map(chunk.count, JSON_MARKS))
            if marks > MAX_JSON_MARKS:
                raise InvalidRequest("The request body holds too many JSON values.")
            chunks.append(chunk)
    except ClientDisconnect:
        raise ClientGone from None
    return chunks[0] if len(chunks) == 1 else b"".join(chunks)


def _too_large(max_bytes: int) -> BodyTooLarge:
    return BodyTooLarge(
        f"The request body is larger than {max_bytes} bytes (--max-body-bytes); "
        "send fewer or smaller images, or send them as URLs."
    )

"""Reading a JSON body: bounded while it is read, and only when it says that it is JSON."""

from __future__ import annotations

import io

from starlette.requests import Request

from gateway.errors import BodyTooLarge, InvalidRequest, UnsupportedMediaType
from gateway.http.connection import ClientGone
from gateway.http.headers import header
from gateway.http.json_marks import MarkCounter

MAX_JSON_MARKS = 250_000
"""Each value takes time and memory: 12 MB of `[],` measured 4.3 s and 600 MB to parse, which would
stop every other request for so long."""
MAX_JSON_MEMBERS = 50_000
"""Of objects, which become records with names and checks: 200,000 held up everybody for 0.5 s where
as many numbers take a hundredth of that. The longest conversation that is taken has 40,000."""
MAX_JSON_QUOTES = 4 * MAX_JSON_MARKS + 4
"""No text with fewer marks has more that begin or end a string."""
SHORT_BYTES = 250_000
"""A value takes a byte, a member five (`"":0,`): what is shorter cannot hold too many."""


async def read_json_body(request: Request, max_bytes: int) -> bytes:
    """Return the body, unparsed.

    Raises:
        UnsupportedMediaType: not declared as JSON. A web page of another origin can post forms
            and plain text without asking; JSON it cannot.
        InvalidRequest: more values than any request needs.
        BodyTooLarge: more than `max_bytes`, as declared or as read.
        ClientGone: the client left before the end.
    """
    media_type = header(request.scope, b"content-type").partition(b";")[0].strip().lower()
    if media_type != b"application/json":
        raise UnsupportedMediaType(
            "Send the request as JSON, with the header 'Content-Type: application/json'."
        )
    if header(request.scope, b"content-encoding").lower() not in (b"", b"identity"):
        raise UnsupportedMediaType("Send the request body uncompressed.")
    declared = header(request.scope, b"content-length")
    if declared.isdigit() and int(declared) > max_bytes:
        raise _too_large(max_bytes)
    # Grown piece by piece: joining the pieces of 27 MB in the end would hold up everybody for 26 ms
    # (measured on the busy development machine).
    body = io.BytesIO()
    counter: MarkCounter | None = None
    more = True
    while more:
        message = await request.receive()
        if message["type"] == "http.disconnect":
            raise ClientGone
        chunk, more = message["body"], message["more_body"]
        if body.tell() + len(chunk) > max_bytes:
            raise _too_large(max_bytes)
        body.write(chunk)
        if body.tell() <= SHORT_BYTES:
            continue
        if counter is None:
            counter, chunk = MarkCounter(), body.getvalue()
        counter.add(chunk)
        _check_count(counter)
    return body.getvalue()


def _check_count(counter: MarkCounter) -> None:
    if counter.members > MAX_JSON_MEMBERS:
        raise InvalidRequest(
            "The request body holds too many JSON values: objects may have "
            f"{MAX_JSON_MEMBERS} members in all."
        )
    if counter.marks > MAX_JSON_MARKS or counter.quotes > MAX_JSON_QUOTES:
        raise InvalidRequest(
            f"The request body holds too many JSON values: {MAX_JSON_MARKS} are allowed."
        )


def _too_large(max_bytes: int) -> BodyTooLarge:
    return BodyTooLarge(
        f"The request body is larger than {max_bytes} bytes (--max-body-bytes); "
        "send fewer or smaller images, or send them as URLs."
    )

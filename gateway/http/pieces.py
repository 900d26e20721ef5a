"""Long answers are handed to a connection piece by piece, each once there is room for it: all at
once, it would hold them a second time until the client has read the last of them."""

from __future__ import annotations

from collections.abc import Iterator

from starlette.types import Send

PIECE_BYTES = 1 << 18


def pieces(data: bytes, *, last: bool) -> Iterator[tuple[bytes, bool]]:
    """Yield the pieces, at least one, each with whether more of the answer is to come after it.

    Args:
        last: whether it ends with these data.
    """
    start = 0
    while len(data) - start > PIECE_BYTES:
        yield data[start : start + PIECE_BYTES], True
        start += PIECE_BYTES
    yield data[start:], not last


async def send_body(send: Send, body: bytes) -> None:
    """Send all of an answer's body."""
    for piece, more in pieces(body, last=True):
        await send({"type": "http.response.body", "body": piece, "more_body": more})

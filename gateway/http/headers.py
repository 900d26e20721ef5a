"""A request's headers as the server hands them over: names in lower case, no copy, no decoding."""

from __future__ import annotations

from starlette.types import Scope


def header(scope: Scope, name: bytes) -> bytes:
    """Return the first value; empty when there is none.

    Args:
        name: in lower case.
    """
    for key, value in scope["headers"]:
        if key == name:
            return bytes(value)
    return b""

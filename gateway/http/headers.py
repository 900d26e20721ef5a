"""A request's headers as the server hands them over: names in lower case, no copy."""

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


def host_name(scope: Scope) -> str:
    """Return the name or address that the request was sent to, in lower case, without the port
    and the brackets of IPv6; empty when it says none."""
    host = header(scope, b"host").decode("latin-1").lower()
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0]

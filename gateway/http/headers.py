"""A request's headers as the server hands them over: names in lower case, no copy."""

from __future__ import annotations

import re

from starlette.requests import Request
from starlette.types import Scope

HOST = re.compile(r"([A-Za-z0-9.-]+|\[[0-9A-Fa-f:.]+\])(:\d{1,5})?")
HOST_HEADER = re.compile(
    rb"([A-Za-z0-9._~!$&'()*+,;=%-]*|\[[0-9A-Fa-fvV:.]+(%[A-Za-z0-9._~%-]+)?\])(:[0-9]*)?"
)
"""What RFC 9110 lets a Host header be, and the zone that some clients leave at an address' end.
Names of containers may have an underscore."""
BY_NAME = "proxy_oai_compat.headers"
"""Where a scope keeps its headers for the next who asks: each request is asked for six."""
PREFIX = re.compile(r"(/[\w.~-]+)+")


def header(scope: Scope, name: bytes) -> bytes:
    """Return the first value; empty when there is none.

    Args:
        name: in lower case.
    """
    by_name: dict[bytes, bytes] | None = scope.get(BY_NAME)
    if by_name is None:
        by_name = scope[BY_NAME] = dict(reversed(scope["headers"]))
    return by_name.get(name, b"")


def says_its_host(scope: Scope) -> bool:
    """Whether the request has one Host header and that is well-formed, as HTTP/1.1 demands; older
    clients need not send one."""
    hosts = [value for name, value in scope["headers"] if name == b"host"]
    if not hosts:
        return bool(scope["http_version"] == "1.0")
    return len(hosts) == 1 and HOST_HEADER.fullmatch(hosts[0]) is not None


def host_name(scope: Scope) -> str:
    """Return the name or address that the request was sent to, in lower case, without the port
    and the brackets of IPv6; empty when it says none."""
    host = header(scope, b"host").decode("latin-1").lower()
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0]


def origin(request: Request) -> str:
    """Return this server's address as the client knows it, whatever proxy stands before it.

    It is for people to read: everything in it comes from headers, which say what they like.
    """
    headers = request.headers
    forwarded = headers.get("x-forwarded-proto") == "https"
    scheme = "https" if forwarded else request.url.scheme
    hosts = [headers.get(name, "") for name in ("x-forwarded-host", "host")]
    host = next((host for host in hosts if HOST.fullmatch(host)), "HOST")
    prefix = headers.get("x-forwarded-prefix", "").rstrip("/")
    return f"{scheme}://{host}{prefix if PREFIX.fullmatch(prefix) else ''}"

"""The ports that `scripts/serve` needs: where they are reached, and whether they are free.

It looks before it starts: another server on the same port would answer in the name of the one
that is being started.
"""

from __future__ import annotations

import contextlib
import errno
import socket
from collections.abc import Iterator

from gateway.settings import Settings
from scripts.loopback import reachable

ANY_PORT = 0
ANSWER_S = 1.0
HTTP_TAKEN = (
    "port {port} is taken: this server may be running already. Stop what listens there, or choose "
    "another port: --port {next}"
)
WORKERS_TAKEN = (
    "port {port}, where workers connect, is taken: a server on another --port may be running. Stop "
    "it, or choose another port here too: --bind tcp://{host}:{next}"
)


def taken_ports(settings: Settings) -> Iterator[str]:
    """Say of each port that the gateway will listen on and cannot what to do about it."""
    if _is_taken(settings.host, settings.port):
        yield HTTP_TAKEN.format(port=settings.port, next=settings.port + 1)
    for endpoint in settings.bind:
        scheme, _, address = endpoint.partition("://")
        host, _, port = address.rpartition(":")
        if scheme == "tcp" and port.isdecimal() and _is_taken(host.strip("[]*"), int(port)):
            yield WORKERS_TAKEN.format(port=port, host=host, next=int(port) + 1)


def _is_taken(host: str, port: int) -> bool:
    """Whether another program listens there; what else is wrong the gateway itself says best."""
    if port == ANY_PORT:
        return False
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    refused = _refused(family, host, port)
    return refused == errno.EADDRINUSE or (refused == 0 and _is_answered(family, host, port))


def _refused(family: socket.AddressFamily, host: str, port: int) -> int:
    """Why the port cannot be bound, 0 when it can: another machine's address may well answer."""
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        # As uvicorn and ZeroMQ do: connections that are closing do not take a port.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            return error.errno or errno.EINVAL
    return 0


def _is_answered(family: socket.AddressFamily, host: str, port: int) -> bool:
    """macOS lets every address be bound beside one of them; whoever has that one then answers."""
    with socket.socket(family, socket.SOCK_STREAM) as probe, contextlib.suppress(OSError):
        probe.settimeout(ANSWER_S)
        probe.connect((reachable(host).strip("[]"), port))
        # A connection to a port that is free may, by chance, come from that very port.
        return bool(probe.getsockname() != probe.getpeername())
    return False

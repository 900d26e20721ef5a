"""The sockets that HTTP clients connect to."""

from __future__ import annotations

import errno
import socket

from shared.settings import SettingsError

BACKLOG = 2048

LOOPBACK_ADDRESSES = ("127.0.0.1", "::1")
"""Both are `localhost`, and clients differ in which they try; a system's own list may have only one
(macOS: `::1`)."""

NO_SUCH_ADDRESS = (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)
"""As on a machine without IPv6."""


def listen(host: str, port: int) -> list[socket.socket]:
    """Return the listening HTTP sockets: several where a name stands for several addresses.

    Args:
        port: 0: one that is free.

    Raises:
        SettingsError: the port is taken, or the address is not this machine's.
    """
    sockets: list[socket.socket] = []
    try:
        if host != "localhost":
            sockets.append(_listen_on(host, port))
        else:
            for address in LOOPBACK_ADDRESSES:
                _add(sockets, address, port)
    except OSError as error:
        for opened in sockets:
            opened.close()
        raise SettingsError(
            f"--host, --port: cannot listen on {host}:{port}: {error.strerror}"
        ) from None
    return sockets


def _add(sockets: list[socket.socket], address: str, port: int) -> None:
    """Listen on one more address, on the same port as before; unless this machine has no such
    address, and listens on another already or has another to try."""
    try:
        sockets.append(_listen_on(address, sockets[0].getsockname()[1] if sockets else port))
    except OSError as error:
        last = address == LOOPBACK_ADDRESSES[-1]
        if error.errno not in NO_SUCH_ADDRESS or (last and not sockets):
            raise


def _listen_on(host: str, port: int) -> socket.socket:
    family, kind, protocol, _, address = socket.getaddrinfo(
        host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    listener = socket.socket(family, kind, protocol)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        # At once, so that a second gateway on the same port fails here and not later.
        listener.listen(BACKLOG)
    except OSError:
        listener.close()
        raise
    listener.setblocking(False)
    return listener


def url(listener: socket.socket) -> str:
    """Return the address of a listening socket as a URL."""
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"

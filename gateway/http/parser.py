"""An HTTP/1.1 parser for which an offer to speak another protocol changes nothing.

A server may answer a request as if it had no `Upgrade`, and ours does. Java's own client offers
`h2c` with the first request of every connection. httptools' parser takes each offer for accepted:
what follows the headers, the body, is not HTTP to it.
"""

from __future__ import annotations

from itertools import chain
from typing import Any, Protocol

import httptools


class Head(Protocol):
    """What has been parsed of a request, which the parser tells its protocol."""

    url: bytes
    headers: list[tuple[bytes, bytes]]


class Parser(httptools.HttpRequestParser):
    """Parses the head of such a request a second time, without the offer; its protocol takes no
    notice of the first time's end, while `is_offer`."""

    def __init__(self, protocol: Head) -> None:
        self._parsed = protocol
        self._begin()

    def _begin(self) -> None:
        super().__init__(self._parsed)
        self.set_dangerous_leniencies(lenient_data_after_close=True)  # as uvicorn has it

    @property
    def is_offer(self) -> bool:
        """Whether the head that was parsed last has an offer. Its protocol refuses CONNECT, which
        is one and nothing else."""
        return bool(self.should_upgrade())

    @property
    def head_bytes(self) -> int:
        """How long the address, names and values are of the head that is being parsed."""
        names_and_values = chain.from_iterable(self._parsed.headers)
        return len(self._parsed.url) + sum(map(len, names_and_values))

    def feed_data(self, data: Any) -> None:
        """
        Args:
            data: bytes, or what holds them.

        Raises:
            httptools.HttpParserError: they are no HTTP.
        """
        while True:
            try:
                super().feed_data(data)
                return
            except httptools.HttpParserUpgrade as offer:
                (position,) = offer.args
                data = self._without_offer() + bytes(data[position:])
                self._begin()  # one that closes has ended the parsing, too

    def _without_offer(self) -> bytes:
        version = self.get_http_version().encode()
        line = b"%s %s HTTP/%s\r\n" % (self.get_method(), self._parsed.url, version)
        lines = [b"%s: %s\r\n" % one for one in self._parsed.headers if one[0] != b"upgrade"]
        return b"".join((line, *lines, b"\r\n"))

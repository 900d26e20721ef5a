"""Fetching an image that a stranger named, without becoming the stranger's hand.

Every hop is done by hand: the name is resolved once, every address it resolves to is checked,
and the connection goes to a checked address, so that a second resolution cannot lead elsewhere.
There are no cookies, no credentials, no proxies of the environment, no decompression. Size, time
and the number of fetches are bounded, and a redirect is a new hop with all checks.
"""

from __future__ import annotations

import contextlib
import io
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import httpx

from gateway.generation import ImageSource
from gateway.images.addresses import may_connect
from gateway.images.lookups import HostTimeout, Lookups, Resolve, resolve
from gateway.images.room import turn_with_room
from gateway.images.sources import InvalidImage
from gateway.images.turns import Flow, Turns
from gateway.memory import Holding

MAX_REDIRECTS = 3
CONNECT_TIMEOUT_S = 2.5
MAX_ADDRESSES = 3
"""Of one name, tried one after the other: the first may be an IPv6 one on a network without."""

ACCEPT = "image/png, image/jpeg, image/webp, image/gif, image/*;q=0.8, application/pdf;q=0.8"
"""What everybody reads is dearest: it need not be converted."""

REDIRECTS = frozenset({301, 302, 303, 307, 308})


@dataclass(frozen=True)
class FetchLimits:
    """`hosts` are the only ones allowed (`*.example.com` for subdomains); empty: any."""

    max_bytes: int
    timeout_s: float
    concurrency: int
    allow_private: bool
    hosts: Sequence[str] = ()


class Fetching:
    """One request's fetches: its turns at looking names up, and at their hosts.

    Args:
        client: whose request it is.
    """

    def __init__(self, client: str = "") -> None:
        self.lookups, self.hosts = Flow(client), Flow(client)


class Refused(Exception):
    """Why a URL is not fetched, in words for the client; has no subject: the field comes first."""


class Fetcher:
    """Fetches images; at most `concurrency` at once and a quarter of that from one host, in turns
    by request."""

    def __init__(self, limits: FetchLimits, resolve: Resolve = resolve) -> None:
        self._limits = limits
        self._lookups = Lookups(limits.concurrency, resolve)
        self._turns = Turns(
            limits.concurrency,
            per_key=max(1, limits.concurrency // 4),
        )
        # No connection is kept: a kept one would be chosen by address and serve another name.
        self._transport = httpx.AsyncHTTPTransport(
            verify=_tls_context(),
            trust_env=False,
            limits=httpx.Limits(max_keepalive_connections=0),
        )

    async def close(self) -> None:
        await self._transport.aclose()

    async def fetch(self, source: ImageSource, fetching: Fetching, memory: Holding) -> bytes:
        """Return the bytes behind the URL.

        Args:
            fetching: the request's.
            memory: what is fetched is counted there. There is room for the largest image before
                the fetch begins: a host would not wait for memory.

        Raises:
            InvalidImage: refused, not there, too large or too slow.
            BodyTooLarge, QueueFull: see `Holding.until_room`.
        """
        try:
            return await self._follow(source, fetching, memory)
        except Refused as refused:
            reason = str(refused)
        except TimeoutError:
            reason = f"fetching it took longer than {self._limits.timeout_s:g} s"
        except (httpx.HTTPError, httpx.InvalidURL, ssl.SSLError):
            reason = "the image could not be fetched: the connection failed"
        raise InvalidImage(f"{source.param}: {reason}.", param=source.param)

    async def _follow(self, source: ImageSource, fetching: Fetching, memory: Holding) -> bytes:
        url = _parsed(source.url)
        host_timeout = HostTimeout(self._limits.timeout_s)
        for _ in range(MAX_REDIRECTS + 1):
            addresses = await self._checked_addresses(url, fetching.lookups, host_timeout)
            most = self._most_bytes(memory)
            turn = turn_with_room(
                self._turns, fetching.hosts, 1, memory, most, source.param, key=url.host
            )
            async with turn as room:
                async with host_timeout.running():
                    answer = await self._hop(url, addresses, source.param, memory)
                if isinstance(answer, bytes):
                    room.keep(len(answer))
            if isinstance(answer, bytes):
                return answer
            url = _parsed(str(url.join(answer)))
        raise Refused(f"it redirects more than {MAX_REDIRECTS} times")

    def _most_bytes(self, memory: Holding) -> int:
        return max(0, min(self._limits.max_bytes, memory.most_more_bytes))

    async def _hop(
        self, url: httpx.URL, addresses: Sequence[str], param: str, memory: Holding
    ) -> bytes | httpx.URL:
        """Return the body, or where it redirects to."""
        response = await self._request(url, addresses[:MAX_ADDRESSES])
        try:
            if response.status_code in REDIRECTS and "location" in response.headers:
                return httpx.URL(response.headers["location"])
            return await self._read(response, param, memory)
        finally:
            await response.aclose()

    async def _request(self, url: httpx.URL, addresses: Sequence[str]) -> httpx.Response:
        """Ask the first of the host's addresses that can be connected to."""
        for address in addresses[:-1]:
            with contextlib.suppress(httpx.ConnectError, httpx.ConnectTimeout):
                return await self._transport.handle_async_request(self._build(url, address))
        return await self._transport.handle_async_request(self._build(url, addresses[-1]))

    def _build(self, url: httpx.URL, address: str) -> httpx.Request:
        return httpx.Request(
            "GET",
            url.copy_with(host=address, fragment=None),
            headers={
                "Host": url.netloc.decode("ascii"),
                "Accept": ACCEPT,
                "Accept-Encoding": "identity",
                "User-Agent": "proxy-oai-compat",
                "Connection": "close",
            },
            extensions={
                "sni_hostname": url.raw_host.decode("ascii"),
                "timeout": httpx.Timeout(
                    self._limits.timeout_s, connect=CONNECT_TIMEOUT_S
                ).as_dict(),
            },
        )

    async def _checked_addresses(
        self, url: httpx.URL, flow: Flow, host_timeout: HostTimeout
    ) -> list[str]:
        host = url.raw_host.decode("ascii").strip("[]")
        if self._limits.hosts and not _allowed(host, self._limits.hosts):
            raise Refused("this server fetches images from certain hosts only, not from this one")
        port = url.port or (443 if url.scheme == "https" else 80)
        try:
            addresses = await self._lookups.addresses(host, port, flow, host_timeout)
        except TimeoutError:
            raise
        except (OSError, UnicodeError):
            raise Refused("the host name could not be resolved") from None
        private = self._limits.allow_private
        if not addresses or not all(may_connect(a, allow_private=private) for a in addresses):
            raise Refused("the URL leads to an address that this server does not fetch from")
        return addresses

    async def _read(self, response: httpx.Response, param: str, memory: Holding) -> bytes:
        if response.status_code != 200:
            raise Refused(f"the image could not be fetched: HTTP status {response.status_code}")
        if response.headers.get("content-encoding", "identity").lower() != "identity":
            raise Refused("the image came compressed, which was not asked for")
        too_large = Refused(f"the image is larger than {self._limits.max_bytes} bytes")
        declared = response.headers.get("content-length", "")
        if declared.isdigit() and int(declared) > self._limits.max_bytes:
            raise too_large
        most_bytes = self._most_bytes(memory)
        body = io.BytesIO()
        async for chunk in response.aiter_raw():
            if body.tell() + len(chunk) > self._limits.max_bytes:
                raise too_large
            if body.tell() + len(chunk) > most_bytes:
                memory.check(most_bytes + 1, param)
            body.write(chunk)
        if not body.tell():
            raise Refused("the answer was empty")
        return body.getvalue()


@cache
def _tls_context() -> ssl.SSLContext:
    """Built once, as it takes tens of milliseconds; trusts certifi's authorities, since Python
    on macOS may know none."""
    return httpx.create_ssl_context(trust_env=False)


def _parsed(address: str) -> httpx.URL:
    try:
        url = httpx.URL(address.rstrip())
        host = url.raw_host
    except (httpx.InvalidURL, ValueError, TypeError):
        raise Refused("the URL is malformed") from None
    if url.scheme not in ("http", "https"):
        raise Refused("only http and https URLs are fetched")
    if not host:
        raise Refused("the URL has no host")
    if url.port is not None and not 0 < url.port < 65536:
        raise Refused("the URL's port is not one")
    if url.userinfo:
        raise Refused("a URL with a user name or password is not fetched")
    return url


def _allowed(host: str, patterns: Sequence[str]) -> bool:
    host = host.lower().rstrip(".")
    for pattern in (pattern.lower() for pattern in patterns):
        if host == pattern or (pattern.startswith("*.") and host.endswith(pattern[1:])):
            return True
    return False

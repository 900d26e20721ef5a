"""Which addresses are this machine's own: a proxy of the environment must not be asked for them."""

from __future__ import annotations

from urllib.parse import urlsplit

from shared import loopback


def is_loopback(url: str) -> bool:
    """Whether a URL's host is this machine, as seen from itself."""
    try:
        return loopback.is_loopback(urlsplit(url).hostname or "")
    except ValueError:
        return False


def reachable(host: str) -> str:
    """The host of a URL that reaches from this machine what listens on an address."""
    if host in ("0.0.0.0", ""):
        return "127.0.0.1"
    if host == "::":
        return "[::1]"
    return f"[{host}]" if ":" in host else host

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

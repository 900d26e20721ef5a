"""Which addresses are this machine's own, as seen from itself."""

from __future__ import annotations

import ipaddress
from functools import lru_cache


@lru_cache(maxsize=256)
def is_loopback(host: str) -> bool:
    """
    Args:
        host: a name or an address, without port and brackets. Of names only `localhost` is known.
    """
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False

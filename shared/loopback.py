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
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    # A socket for both kinds of address (`--host ::`) tells an IPv4 peer's as a mapped one.
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return (mapped or address).is_loopback

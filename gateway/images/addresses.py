"""Which addresses an image URL may lead to.

A server that fetches what strangers name must not become their hand inside the network. Only
globally routable unicast addresses pass; addresses that carry an IPv4 address inside them are
judged by that one too, because the network may deliver there.
"""

from __future__ import annotations

import ipaddress

IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address

NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
LOCAL_NAT64 = ipaddress.IPv6Network("64:ff9b:1::/48")

# Never fetched from, not even when private hosts are allowed: they hand out credentials.
METADATA = frozenset(
    ipaddress.ip_address(address)
    for address in (
        "169.254.169.254",  # AWS, Azure, Google Cloud, and most others
        "169.254.170.2",  # AWS containers
        "169.254.170.23",
        "100.100.100.200",  # Alibaba
        "168.63.129.16",  # Azure's wire server, a public address
        "192.0.0.192",  # Oracle
        "fd00:ec2::254",  # AWS over IPv6
        "fd00:ec2::23",
        "fd20:ce::254",  # Google Cloud over IPv6
    )
)

# `is_global` of older Python versions passes some of these.
NOT_GLOBAL = tuple(
    ipaddress.ip_network(network)
    for network in (
        "0.0.0.0/8",
        "100.64.0.0/10",
        "192.0.0.0/24",
        "192.88.99.0/24",
        "198.18.0.0/15",
        "240.0.0.0/4",
        "::/96",
        "64:ff9b:1::/48",
        "100::/64",
        "2001::/23",
        "2002::/16",
        "3fff::/20",
        "5f00::/16",
        "fec0::/10",
    )
)


def may_connect(address: str, *, allow_private: bool) -> bool:
    """Return whether a fetch may connect to this numeric address."""
    try:
        ip = ipaddress.ip_address(address)
    except ValueError:
        return False
    return _may_connect(ip, allow_private)


def _may_connect(ip: IPAddress, allow_private: bool) -> bool:
    carried = _carried_ipv4(ip)
    if carried is not None:
        return _may_connect(carried, allow_private)
    if ip in METADATA or ip.is_multicast or ip.is_unspecified:
        return False
    if allow_private and (ip.is_loopback or ip.is_link_local or ip.is_private):
        return not _in_this_network(ip)
    if any(ip.version == network.version and ip in network for network in NOT_GLOBAL):
        return False
    return ip.is_global and not ip.is_reserved


def _carried_ipv4(ip: IPAddress) -> ipaddress.IPv4Address | None:
    if not isinstance(ip, ipaddress.IPv6Address):
        return None
    if ip.ipv4_mapped is not None:
        return ip.ipv4_mapped
    if ip in NAT64:
        return ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
    return None


def _in_this_network(ip: IPAddress) -> bool:
    """These count as private in Python, but lead anywhere: 0.0.0.0/8, the broadcast address, and
    the prefix behind which a network may put any IPv4 address."""
    if isinstance(ip, ipaddress.IPv6Address):
        return ip in LOCAL_NAT64
    return ip.packed[0] == 0 or ip.packed[0] >= 240

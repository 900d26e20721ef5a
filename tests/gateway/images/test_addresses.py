"""Addresses that a fetch may and may not connect to."""

from __future__ import annotations

import pytest

from gateway.images.addresses import METADATA, may_connect

PUBLIC = ["1.1.1.1", "8.8.8.8", "93.184.216.34", "2606:4700::1111", "::ffff:8.8.8.8",
          "64:ff9b::8.8.8.8"]  # fmt: skip

PRIVATE = ["127.0.0.1", "127.255.255.254", "10.0.0.1", "172.16.0.1", "172.31.255.255",
           "192.168.1.1", "169.254.1.1", "::1", "fc00::1", "fd12:3456::1", "fe80::1",
           "fe80::1%lo", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "64:ff9b::127.0.0.1",
           "64:ff9b::a00:1"]  # fmt: skip

NEVER = ["0.0.0.0", "0.1.2.3", "255.255.255.255", "224.0.0.1", "239.255.255.250", "240.0.0.1",
         "::", "ff02::1", "::ffff:0.0.0.0", "64:ff9b::169.254.169.254",
         "::ffff:169.254.169.254", "64:ff9b:1::a9fe:a9fe", "nonsense", "", "1.2.3", "0x7f000001",
         *map(str, METADATA)]  # fmt: skip

SPECIAL = ["100.64.0.1", "100.127.255.255", "192.0.0.1", "192.0.2.1", "192.88.99.1", "198.18.0.1",
           "198.51.100.1", "203.0.113.1", "::7f00:1", "::8.8.8.8", "64:ff9b:1::1", "100::1",
           "2001::1", "2001:db8::1", "2002:7f00:1::", "2002:808:808::1", "3fff::1", "5f00::1",
           "fec0::1"]  # fmt: skip


@pytest.mark.parametrize("address", PUBLIC)
def test_public_addresses_pass(address: str) -> None:
    assert may_connect(address, allow_private=False)
    assert may_connect(address, allow_private=True)


@pytest.mark.parametrize("address", PRIVATE)
def test_private_addresses_pass_when_allowed(address: str) -> None:
    assert not may_connect(address, allow_private=False)
    assert may_connect(address, allow_private=True)


@pytest.mark.parametrize("address", sorted(NEVER))
def test_some_addresses_never_pass(address: str) -> None:
    assert not may_connect(address, allow_private=False)
    assert not may_connect(address, allow_private=True)


@pytest.mark.parametrize("address", SPECIAL)
def test_special_ranges_are_not_public(address: str) -> None:
    assert not may_connect(address, allow_private=False)

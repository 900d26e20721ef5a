"""Which servers are on this machine: those are reached without a proxy."""

from __future__ import annotations

import pytest

from scripts.loopback import is_loopback


@pytest.mark.parametrize(
    ("url", "own"),
    [
        ("http://127.0.0.1:8000", True),
        ("http://127.1.2.3/v1", True),
        ("http://localhost:8000", True),
        ("http://[::1]:8000", True),
        ("http://10.0.0.1:8000", False),
        ("https://example.com", False),
        ("http://localhost.example.com", False),
        ("http://[", False),
        ("nothing", False),
    ],
)
def test_loopback(url: str, own: bool) -> None:
    assert is_loopback(url) is own

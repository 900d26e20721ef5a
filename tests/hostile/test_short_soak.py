"""A few seconds of the soak (`scripts/soak --minutes 10` is the long one)."""

from __future__ import annotations

import sys

import pytest

from tests.soak.run import soak


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_few_seconds_of_everything_at_once() -> None:
    # So short a warm-up has not met the largest requests yet: only a flood of memory is a fault.
    table, faults = soak(minutes=0.08, clients=8, tolerance_mib=256)
    assert not faults, table

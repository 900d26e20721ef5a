"""What all models of one host may take together."""

from __future__ import annotations

import os
from dataclasses import dataclass

BUDGET_SHARE = 0.75
"""The rest is for what a step works with, and for everybody else."""


@dataclass(frozen=True)
class Budget:
    """`explicit`: the operator's own figure, which holds whatever else is on the machine."""

    bytes: int
    explicit: bool


def default_budget_bytes(device_bytes: int | None) -> int:
    """
    Args:
        device_bytes: what the GPU recommends; None or 0: there is none, and the machine's counts.
    """
    machine_bytes = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return int((device_bytes or machine_bytes) * BUDGET_SHARE)

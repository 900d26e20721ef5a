"""How many examples a property is tried on."""

from __future__ import annotations

from hypothesis import settings

QUICK = "quick"
"""The profile of `--quick`."""


def examples(count: int) -> int:
    """So many; a fifth of them with `--quick`."""
    return count // 5 if settings.get_current_profile_name() == QUICK else count

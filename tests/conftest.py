"""How all tests run."""

from __future__ import annotations

from hypothesis import settings

# A busy machine is no reason to fail: what is slow is measured by scripts/bench, not here.
settings.register_profile("unhurried", deadline=None)
settings.load_profile("unhurried")

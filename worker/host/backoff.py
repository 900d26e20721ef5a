"""How long an engine that has ended stays ended. No clock."""

from __future__ import annotations

from dataclasses import dataclass

STEADY_AFTER_S = 60.0
FIRST_BACKOFF_S = 0.25
MAX_BACKOFF_S = 30.0
MAX_READY_BACKOFF_S = 1.0


@dataclass
class Backoff:
    """No wait before the first restart, then twice as long each time until it runs steadily.

    An engine that had become ready has shown that it can work, so its wait stays short: whoever
    waits for it (gateways keep its slots on lease) waits in vain otherwise.
    """

    failures: int = 0

    def after_run(self, lasted_s: float, *, was_ready: bool) -> float:
        """Return how long to wait before the next start, in seconds."""
        self.failures = 0 if lasted_s > STEADY_AFTER_S else self.failures
        self.failures += 1
        if self.failures == 1:
            return 0.0
        limit_s = MAX_READY_BACKOFF_S if was_ready else MAX_BACKOFF_S
        return float(min(limit_s, FIRST_BACKOFF_S * 2.0 ** (self.failures - 2)))

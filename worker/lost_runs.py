"""Which runs were under way when earlier engine processes died: known by their supervisor, told to
gateways by the next one, so that no job is blamed for a death that it had no part in."""

from __future__ import annotations

import json
import os
from collections.abc import Collection

from shared.messages import MAX_DIED_WITH

VARIABLE = "WORKER_DIED_WITH"


class LostRuns:
    """The supervisor's list, the latest last.

    It goes on over several deaths: a process may die before every gateway has heard of the last.
    """

    def __init__(self) -> None:
        self._runs: list[str] | None = []

    def died(self, runs: Collection[str] | None) -> None:
        """An engine process has died with these; None: nobody knows with which."""
        if runs is None or len(runs) > MAX_DIED_WITH:
            self._runs = None
        else:
            self._runs = [*(self._runs or []), *runs][-MAX_DIED_WITH:]

    def environment(self) -> dict[str, str]:
        """What the next engine process is started with."""
        return {} if self._runs is None else {VARIABLE: json.dumps(self._runs)}


def told() -> list[str] | None:
    """In an engine process: what its supervisor knows; None when it does not, or there is none."""
    text = os.environ.get(VARIABLE)
    return None if text is None else json.loads(text)

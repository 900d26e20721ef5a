"""`scripts/workers` orders the worker that is meant, or none."""

from __future__ import annotations

from typing import Any

import pytest

from scripts.workers import Fleet, rolling_restart


class Twins(Fleet):
    """Two of three workers have one name; an order would be a mistake."""

    def __init__(self) -> None:
        pass

    def workers(self) -> list[dict[str, Any]]:
        return [{"id": name, "state": "ready", "pid": 1} for name in ("other", "twin", "twin")]


def test_workers_of_one_name_are_not_ordered(capsys: pytest.CaptureFixture[str]) -> None:
    assert "twin" in (Twins().order("twin", "restart") or "")
    assert rolling_restart(Twins()) == 1
    told = capsys.readouterr()
    assert "twin" in told.err and "--name" in told.err
    assert "other" not in told.err + told.out

"""The memory that all requests hold together."""

from __future__ import annotations

import pytest

from gateway.errors import BodyTooLarge, QueueFull
from gateway.memory import MemoryBudget


def test_what_does_not_fit_is_refused_and_what_never_fits_is_told_apart() -> None:
    freed: list[int] = []
    budget = MemoryBudget(100, freed.append)
    with budget.open() as first, budget.open() as second:
        first.take(60)
        with pytest.raises(QueueFull) as full:
            second.take(50, "messages[0]")
        assert full.value.param == "messages[0]"
        with pytest.raises(BodyTooLarge) as large:
            first.take(41, "messages[1]")
        assert large.value.param == "messages[1]"
        first.give_back(20)
        second.take(50)
        assert budget.used_bytes == 90
    assert budget.used_bytes == 0
    assert sorted(freed) == [20, 40, 50]

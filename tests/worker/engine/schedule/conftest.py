"""What bystanders say in peace."""

from __future__ import annotations

import pytest

from tests.worker.engine.conftest import MakeDriver
from tests.worker.engine.schedule.bystanders import bystanders


@pytest.fixture(scope="module")
def expected(anew: MakeDriver) -> list[list[int]]:
    """What the bystanders say when nothing happens beside them."""
    return [result.tokens for result in anew().run(*bystanders())]

"""What is told who asks for a model that its worker has, and has not loaded."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.dispatch.core.catalogues.hosts import Host
from gateway.dispatch.core.catalogues.refusals import not_ready
from gateway.errors import NoWorker
from shared.messages import Catalogue, CatalogueEntry


@pytest.mark.parametrize(
    "state",
    [{"status": "unloaded"}, {"status": "loading", "fraction": 0.5}, {"status": "downloading"}],
    ids=lambda state: state["status"],
)
def test_a_model_on_its_way_is_waited_for(state: dict[str, Any]) -> None:
    told = not_ready([(host(), CatalogueEntry(name="k", slots=1, stream_slots=1, **state))])
    assert isinstance(told, NoWorker)
    assert (told.code, told.status) == ("loading", 503) and told.retry_after_s
    assert "'k'" in told.message


def test_nothing_is_said_of_no_model() -> None:
    assert not_ready([]) is None


def host() -> Host:
    catalogue = Catalogue(worker="mac", instance="mac-1", models=[])
    return Host(b"mac", catalogue, 0.0)

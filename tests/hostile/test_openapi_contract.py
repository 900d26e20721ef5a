"""Requests drawn from what `/openapi.json` promises, against real tiers: no fault of ours, no
status and no body that the document does not name."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis.core.result import Ok

from tests.processes import Service, serving

EXAMPLES = 6


@pytest.fixture(scope="module")
def service() -> Iterator[Service]:
    with serving(workers=1, gateway_flags=("--queue-timeout", "5")) as running:
        yield running


def test_every_answer_is_one_that_was_promised(service: Service) -> None:
    schema = schemathesis.openapi.from_url(f"{service.url}/openapi.json")
    operations = [result.ok() for result in schema.get_all_operations() if isinstance(result, Ok)]
    assert len(operations) > 10
    for operation in operations:
        if operation.path.startswith("/v1/workers/"):
            continue  # its orders would drain the only worker
        try_out(service, operation)
    assert "Traceback" not in service.gateway.output()


def try_out(service: Service, operation: schemathesis.APIOperation[Any, Any, Any, Any]) -> None:
    cases = st.one_of(
        operation.as_strategy(generation_mode=schemathesis.GenerationMode.POSITIVE),
        operation.as_strategy(generation_mode=schemathesis.GenerationMode.NEGATIVE),
    )

    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        database=None,
        derandomize=True,
        phases=[Phase.explicit, Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=cases)
    def ask(case: schemathesis.Case[Any]) -> None:
        response = case.call(base_url=service.url, timeout=30)
        promised = {str(status) for status in operation.definition.raw["responses"]}
        assert str(response.status_code) in promised | {"404", "405"}, response.text[:300]
        assert response.status_code < 500 or response.status_code == 503, response.text[:300]
        if response.status_code >= 400:
            assert set(response.json()) >= {"detail", "error"}, response.text[:300]

    ask()

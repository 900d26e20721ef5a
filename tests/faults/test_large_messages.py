"""Requests as large as any that HTTP admits: answered or refused, and the worker stays."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.processes import Service, answer_text, serving
from tests.scripted import words

MIB = 1 << 20
ENVELOPE_BYTES = 400


@pytest.fixture(scope="module")
def service() -> Iterator[Service]:
    flags = ("--max-body-bytes", str(100 * MIB))
    with serving(workers=1, gateway_flags=flags) as running:
        yield running


def assert_nobody_has_left(service: Service) -> None:
    assert answer_text(service.script(tokens=3)) == words(3)
    assert "lost its connection" not in service.gateway.output()
    assert "has fallen silent" not in service.workers[0].output()


@pytest.mark.parametrize("excess", [-ENVELOPE_BYTES, 0, 30 * MIB])
def test_a_text_of_64_mib_costs_its_own_client_alone(service: Service, excess: int) -> None:
    text = "x" * (64 * MIB + excess)
    response = service.ask({"messages": [{"role": "user", "content": text}]})
    if excess < 0:
        assert response.status_code == 200, response.text[:300]
    else:
        assert response.status_code == 413, response.text[:300]
        error = response.json()["error"]
        assert error["code"] == "request_too_large"
        assert error["param"] == "messages"
    assert_nobody_has_left(service)


def test_a_stream_that_is_too_large_is_refused_by_an_http_status(service: Service) -> None:
    body: dict[str, Any] = {"prompt": "x" * (65 * MIB), "stream": True}
    response = service.ask(body, "/v1/completions")
    assert response.status_code == 413
    assert response.json()["error"]["param"] == "prompt"
    assert_nobody_has_left(service)


def test_what_grows_the_job_is_named_as_its_dialect_names_it(service: Service) -> None:
    response = service.ask({"input": "x" * (65 * MIB)}, "/v1/responses")
    assert response.status_code == 413
    assert response.json()["error"]["param"] == "input"
    assert_nobody_has_left(service)


def test_a_calls_input_does_not_grow_on_its_way_to_the_worker(service: Service) -> None:
    text = "é" * (12 * MIB)
    call = {"type": "tool_use", "id": "c", "name": "f", "input": {"text": text}}
    result = {"type": "tool_result", "tool_use_id": "c", "content": "done"}
    response = service.ask(
        {
            "model": service.get("/v1/models")["data"][0]["id"],
            "max_tokens": 10,
            "messages": [
                {"role": "user", "content": "Call it."},
                {"role": "assistant", "content": [call]},
                {"role": "user", "content": [result]},
            ],
        },
        "/v1/messages",
    )
    assert response.status_code == 200, response.text[:300]
    assert_nobody_has_left(service)

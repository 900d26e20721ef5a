"""Orders to load and unload models; how the models are is in `test_status.py`."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.errors import NoMemory, NotFound, NoWorker
from tests.gateway.serving import gateway


@pytest.mark.parametrize("path", ["/v1/models", "/models"])
@pytest.mark.parametrize("action", ["load", "unload"])
@pytest.mark.parametrize(("wait", "looks"), [({}, 0), ({"wait": False}, 0), ({"wait": True}, 3)])
async def test_an_order_answers_with_the_model(
    path: str, action: str, wait: dict[str, bool], looks: int
) -> None:
    async with gateway() as running:
        body = {"model": "org/fake"} | wait
        answer = await running.client.post(f"{path}/{action}", json=body)
        shown = await running.client.get("/v1/models/org/fake")
    assert answer.status_code == 200
    assert answer.json() == shown.json() and answer.json()["status"]["value"] == "loaded"
    assert running.status.orders == [("org/fake", action)]
    assert running.status.looks == looks


@pytest.mark.parametrize(
    ("refusal", "status", "code"),
    [
        (NotFound("No such model.", param="model", code="model_not_found"), 404, "model_not_found"),
        (NoMemory("It takes 6 GiB.", retry_after_s=10), 503, "no_memory"),
    ],
)
async def test_a_refused_order_says_why(refusal: Any, status: int, code: str) -> None:
    async with gateway() as running:
        running.status.refusal = refusal
        answer = await running.client.post("/v1/models/load", json={"model": "a"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)
    assert ("retry-after" in answer.headers) == (status == 503)


async def test_who_waits_for_a_load_that_fails_is_told_why() -> None:
    async with gateway() as running:
        running.status.failure = NoWorker("It is broken.", retry_after_s=30)
        body = {"model": "org/fake"}
        at_once = await running.client.post("/v1/models/load", json=body)
        waited = await running.client.post("/v1/models/load", json=body | {"wait": True})
    assert at_once.status_code == 200
    assert waited.status_code == 503 and waited.json()["detail"] == "It is broken."
    assert waited.headers["retry-after"] == "30"


async def test_an_order_that_takes_too_long_stands() -> None:
    async with gateway(queue_timeout=0.1) as running:
        running.status.looks = -1000
        body = {"model": "org/fake", "wait": True}
        answer = await running.client.post("/v1/models/unload", json=body)
    assert answer.status_code == 504 and "still stands" in answer.json()["detail"]


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({}, "model"),
        ({"model": ""}, "model"),
        ({"model": 7}, "model"),
        ({"model": "a", "wait": "soon"}, "wait"),
        ({"model": "a", "force": True}, "force"),
    ],
)
async def test_a_wrong_order_is_refused_by_field(body: dict[str, Any], param: str) -> None:
    async with gateway() as running:
        answer = await running.client.post("/v1/models/unload", json=body)
    assert answer.status_code == 400 and answer.json()["error"]["param"] == param
    assert running.status.orders == []


@pytest.mark.parametrize("action", ["load", "unload"])
async def test_orders_need_the_rights_of_orders(action: str) -> None:
    async with gateway() as running:
        headers = {"x-forwarded-for": "203.0.113.7"}
        passed_on = await running.client.post(
            f"/v1/models/{action}", json={"model": "org/fake"}, headers=headers
        )
    assert passed_on.status_code == 403 and running.status.orders == []
    async with gateway(api_key=("api",), admin_key=("admin",)) as running:
        codes = []
        for key in ("api", "admin", "neither"):
            answer = await running.client.post(
                f"/v1/models/{action}",
                json={"model": "org/fake"},
                headers={"authorization": f"Bearer {key}"},
            )
            codes.append(answer.status_code)
    assert codes == [403, 200, 401]
    assert running.status.orders == [("org/fake", action)]


async def test_a_model_may_be_called_load() -> None:
    async with gateway() as running:
        answer = await running.client.get("/v1/models/load")
    assert answer.status_code == 404 and "'load'" in answer.json()["detail"]

"""Models, health, readiness, statistics, metrics."""

from __future__ import annotations

from gateway.status import Readiness
from tests.gateway.serving import gateway


async def test_models_are_listed_in_openais_shape() -> None:
    async with gateway() as running:
        listed = (await running.client.get("/v1/models")).json()
        shown = await running.client.get("/v1/models/org/fake")
        missing = await running.client.get("/v1/models/none")
    assert listed["object"] == "list"
    assert [model["id"] for model in listed["data"]] == ["org/fake", "demo"]
    assert (listed["first_id"], listed["last_id"], listed["has_more"]) == (
        "org/fake",
        "demo",
        False,
    )
    assert shown.json() == listed["data"][0]
    assert shown.json() == {
        "id": "org/fake",
        "object": "model",
        "type": "model",
        "display_name": "org/fake",
        "created": 1_700_000_000,
        "created_at": "2023-11-14T22:13:20+00:00",
        "owned_by": "local",
        "context_length": 4096,
        "max_model_len": 4096,
        "input_modalities": ["text", "image"],
        "capabilities": {"vision": True},
        "proven": {"text": True},
        "status": {"value": "loaded", "fraction": 1.0, "error": None},
        "draining": False,
        "download": None,
        "memory_bytes": None,
        "pinned": False,
        "idle_s": None,
        "workers": [],
        "aliases": [],
    }
    assert missing.status_code == 404
    assert missing.json()["error"]["code"] == "model_not_found"
    assert "org/fake, demo" in missing.json()["detail"]


async def test_ready_says_what_is_missing() -> None:
    async with gateway() as running:
        ready = await running.client.get("/ready")
        running.status.state = Readiness(False, "loading", "The model is loading (40% done).")
        loading = await running.client.get("/ready")
        alive = await running.client.get("/health")
    assert ready.status_code == 200
    assert ready.json()["workers"] == [{"id": "w1", "state": "ready"}]
    assert loading.status_code == 503
    assert loading.json()["error"]["code"] == "loading"
    assert "40%" in loading.json()["detail"]
    assert int(loading.headers["retry-after"]) >= 1
    assert alive.status_code == 200


async def test_monitors_may_ask_with_head() -> None:
    async with gateway() as running:
        alive = await running.client.head("/health")
        ready = await running.client.head("/ready")
        running.status.state = Readiness(False, "loading", "The model is loading (40% done).")
        loading = await running.client.head("/ready")
    assert [alive.status_code, ready.status_code, loading.status_code] == [200, 200, 503]
    assert alive.content == loading.content == b""


async def test_statistics_and_metrics_come_from_dispatch() -> None:
    async with gateway() as running:
        stats = await running.client.get("/v1/queue/stats")
        metrics = await running.client.get("/metrics")
    assert stats.json()["status"] == "ok"
    assert metrics.text == "gateway_requests_total 0\n"
    assert metrics.headers["content-type"].startswith("text/plain; version=0.0.4")


async def test_workers_are_listed_and_take_orders() -> None:
    async with gateway() as running:
        listed = (await running.client.get("/v1/workers")).json()
        order = {"action": "drain"}
        taken = await running.client.post("/v1/workers/w1", json=order)
        unknown = await running.client.post("/v1/workers/w2", json=order)
        wrong = await running.client.post("/v1/workers/w1", json={"action": "explode"})
    assert listed["data"] == [{"id": "w1", "state": "ready"}]
    assert taken.status_code == 200
    assert running.status.orders == [("w1", "drain"), ("w2", "drain")]
    assert (unknown.status_code, wrong.status_code) == (404, 400)
    assert wrong.json()["error"]["param"] == "action"

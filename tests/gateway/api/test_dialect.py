"""The table of dialects: each entry is served, described and listed."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.api.dialect import DIALECTS, Dialect
from tests.gateway.fake_dispatch import says
from tests.gateway.serving import gateway

EXPECTED = {"prediction": {"type": "content", "content": "Hi"}}


@pytest.mark.parametrize("dialect", DIALECTS, ids=lambda dialect: dialect.name)
async def test_each_is_served_described_and_listed(dialect: Dialect[Any]) -> None:
    async with gateway(says("Hi")) as running:
        document = (await running.client.get("/openapi.json")).json()
        capabilities = (await running.client.get("/v1/capabilities")).json()
        described = document["paths"][dialect.path]["post"]
        example = described["requestBody"]["content"]["application/json"]["example"]
        answer = await running.client.post(dialect.path, json=example)
        unknown = await running.client.post(dialect.path, json=example | {"unheard_of": 1})
        expecting = await running.client.post(dialect.path, json=example | EXPECTED)
        other_method = await running.client.get(dialect.path)
    assert described["summary"] and described["description"] == dialect.description
    assert {entry["name"] for entry in capabilities[dialect.name]} >= set(example)
    assert answer.status_code == 200, answer.text
    assert unknown.json()["error"]["param"] == "unheard_of"
    # OpenAI has it in chat completions alone: elsewhere it would be of no use.
    chats = dialect.name == "chat.completions"
    assert expecting.status_code == (200 if chats else 400)
    assert chats or expecting.json()["error"]["param"] == "prediction"
    assert other_method.status_code == 405


@pytest.mark.parametrize("dialect", DIALECTS, ids=lambda dialect: dialect.name)
def test_each_ends_in_one_way(dialect: Dialect[Any]) -> None:
    assert (dialect.renderer is None) != (dialect.count is None)


async def test_a_trailing_slash_is_no_other_path() -> None:
    async with gateway() as running:
        refusals = [await running.client.post(f"{one.path}/", json={}) for one in DIALECTS]
    assert [refusal.status_code for refusal in refusals] == [400] * len(DIALECTS)

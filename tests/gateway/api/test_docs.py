"""The API's description: complete, and shown without anybody else's scripts."""

from __future__ import annotations

import html
import re

from tests.gateway.fake_dispatch import says
from tests.gateway.serving import gateway


async def test_docs_load_nothing_from_elsewhere() -> None:
    async with gateway() as running:
        page = await running.client.get("/docs")
    assert page.status_code == 200
    assert "<script" not in page.text
    assert "src=" not in page.text
    assert "max_completion_tokens" in page.text
    assert "<code>/v1/capabilities</code>" in page.text
    assert '"model": "org/fake"' in html.unescape(page.text), "a model that is served"
    assert not re.search(r"`|\de\+\d", page.text)
    assert page.headers["content-security-policy"].startswith("default-src 'none'")


ASKED_AS: list[tuple[dict[str, str], str]] = [
    ({"Host": "mac:9000"}, "curl http://mac:9000/v1/chat"),
    ({"Host": "[::1]:9000"}, "curl http://[::1]:9000/v1/chat"),
    (
        {"X-Forwarded-Proto": "https", "X-Forwarded-Host": "ai.example.com"},
        "curl https://ai.example.com/v1/chat",
    ),
    ({"Host": "mac", "X-Forwarded-Prefix": "/vision/"}, "curl http://mac/vision/v1/chat"),
    (
        {"Host": "mac", "Authorization": "Bearer x"},
        'curl -H "Authorization: Bearer $KEY" http://mac/v1/chat',
    ),
    ({"Host": "mac", "X-Forwarded-Host": "a'; rm -rf ~ '"}, "curl http://mac/v1/chat"),
]


async def test_docs_name_the_address_that_was_asked() -> None:
    async with gateway(allowed_host=("mac",)) as running:
        for headers, command in ASKED_AS:
            page = await running.client.get("/docs", headers=headers)
            assert command in html.unescape(page.text)


async def test_each_operation_that_takes_a_body_shows_an_example_that_works() -> None:
    async with gateway(says("x")) as running:
        paths = (await running.client.get("/openapi.json")).json()["paths"]
        bodies = {
            path: methods["post"]["requestBody"]["content"]["application/json"]
            for path, methods in paths.items()
            if path.startswith("/v1/") and "requestBody" in methods.get("post", {})
        }
        answers = [
            await running.client.post(path.format(worker_id="w1"), json=body["example"])
            for path, body in bodies.items()
        ]
    assert len(answers) == 8
    assert [answer.status_code for answer in answers] == [200] * 8


async def test_the_schema_describes_bodies_examples_and_errors() -> None:
    async with gateway() as running:
        document = (await running.client.get("/openapi.json")).json()
    chat = document["paths"]["/v1/chat/completions"]["post"]
    body = chat["requestBody"]["content"]["application/json"]
    assert "messages" in body["schema"]["properties"]
    assert body["example"]["messages"]
    assert {"200", "400", "401", "404", "413", "415", "429", "500", "503", "504"} <= set(
        chat["responses"]
    )

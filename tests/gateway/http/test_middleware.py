"""Host names, request ids, origins, media types and sizes: before any route."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.http.middleware import RequestIds
from tests.gateway.fake_dispatch import says
from tests.gateway.serving import gateway, question

CHAT = "/v1/chat/completions"


@pytest.mark.parametrize(
    ("sent", "kept"),
    [
        ("abc-1.2_X", True),
        ("x" * 128, True),
        ("x" * 129, False),
        ("a b", False),
        ("a\tb", False),
        ("<script>", False),
        ("", False),
    ],
)
async def test_a_sane_request_id_is_kept(sent: str, kept: bool) -> None:
    async with gateway(says("Hi")) as running:
        response = await running.client.post(CHAT, json=question(), headers={"x-request-id": sent})
        answered = response.headers["x-request-id"]
        assert (answered == sent) is kept
        assert running.dispatch.request_ids == [answered]
        assert running.dispatch.tickets[0].job is not None
        assert running.dispatch.tickets[0].job.request_id == answered


async def test_every_answer_has_an_id_of_its_own() -> None:
    async with gateway() as running:
        ids = [
            (await running.client.get(path)).headers["x-request-id"]
            for path in ("/health", "/health", "/v1/nope")
        ]
    assert len(set(ids)) == 3


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost:8000", 200),
        ("127.0.0.1", 200),
        ("127.9.9.9:1", 200),
        ("[::1]:8000", 200),
        ("LOCALHOST", 200),
        ("localhost:", 200),
        ("evil.example", 403),
        ("localhost.evil.example", 403),
        ("127.0.0.1.evil.example", 403),
        ("192.168.0.1", 403),
        ("[fe80::1%25en0]:8000", 403),
        ("[fe80::1%en0]", 403),
    ],
)
async def test_on_loopback_only_loopback_names_are_answered(host: str, status: int) -> None:
    async with gateway() as running:
        response = await running.client.get("/health", headers={"host": host})
    assert response.status_code == status


@pytest.mark.parametrize(
    "lines",
    [
        b"",
        b"host: localhost\r\nhost: localhost\r\n",
        b"host: localhost\r\nHOST: evil.example\r\n",
        b"host: localhost@evil.example\r\n",
        b"host: localhost/evil\r\n",
        b"host: localhost evil\r\n",
        b"host: localhost, evil.example\r\n",
        b"host: localhost:80:80\r\n",
        b"host: localhost:http\r\n",
        b"host: [::1\r\n",
        b"host: \xff\r\n",
    ],
)
async def test_a_request_has_one_host(lines: bytes) -> None:
    """As HTTP/1.1 demands; whoever stands before the gateway may have judged another of them."""
    async with gateway() as running:
        reader, writer = await running.connect()
        writer.write(b"GET /health HTTP/1.1\r\n" + lines + b"connection: close\r\n\r\n")
        answer = await reader.read()
        writer.close()
    assert answer.startswith(b"HTTP/1.1 400 "), answer
    assert b"Host" in answer and b"x-request-id" in answer


async def test_allowed_hosts_are_answered() -> None:
    async with gateway(allowed_host=("mac.local", "my_service")) as running:
        for host, status in (
            ("mac.local:8000", 200),
            ("my_service:8000", 200),
            ("other.local", 403),
        ):
            response = await running.client.get("/health", headers={"host": host})
            assert response.status_code == status


async def test_no_cors_headers_unless_asked_for() -> None:
    origin = {"origin": "https://page.example"}
    asks = origin | {
        "access-control-request-method": "POST",
        "access-control-request-headers": "content-type,authorization",
    }
    async with gateway(api_key=("secret",)) as running:
        response = await running.client.get("/health", headers=origin)
        assert not any(name.startswith("access-control") for name in response.headers)
        assert (await running.client.options(CHAT, headers=asks)).status_code == 401
    async with gateway(api_key=("secret",), cors_origin=("https://page.example",)) as running:
        preflight = await running.client.options(CHAT, headers=asks)
        assert preflight.status_code == 200
        assert preflight.headers["access-control-allow-origin"] == "https://page.example"
        assert preflight.headers["x-request-id"]
        refused = await running.client.get("/v1/models", headers=origin)
        assert refused.status_code == 401
        assert refused.headers["access-control-allow-origin"] == "https://page.example"
        other = await running.client.get("/health", headers={"origin": "https://other.example"})
        assert "access-control-allow-origin" not in other.headers


SDK_HEADERS = "authorization,content-type,x-stainless-arch,anthropic-version,x-of-an-app"


@pytest.mark.parametrize("allowed", ["*", "https://page.example"])
async def test_a_preflight_may_ask_for_any_headers_and_for_this_network(allowed: str) -> None:
    asks = {
        "origin": "https://page.example",
        "access-control-request-method": "POST",
        "access-control-request-headers": SDK_HEADERS,
        "access-control-request-private-network": "true",
    }
    async with gateway(says("x"), cors_origin=(allowed,)) as running:
        preflight = await running.client.options(CHAT, headers=asks)
        assert preflight.status_code == 200
        assert preflight.headers["access-control-allow-origin"] == allowed
        assert preflight.headers["access-control-allow-headers"] == SDK_HEADERS
        assert preflight.headers["access-control-allow-private-network"] == "true"
        answer = await running.client.get("/health", headers={"origin": "https://page.example"})
        assert answer.headers["access-control-expose-headers"] == "*"
        foreign = asks | {"origin": "https://other.example"}
        if allowed != "*":
            refused = await running.client.options(CHAT, headers=foreign)
            assert refused.status_code == 400
            assert "access-control-allow-origin" not in refused.headers


@pytest.mark.parametrize(
    ("media_type", "status"),
    [
        ("application/json", 200),
        ("Application/JSON; charset=utf-8", 200),
        ("text/plain", 415),
        ("application/x-www-form-urlencoded", 415),
        ("multipart/form-data; boundary=x", 415),
        ("", 415),
    ],
)
async def test_only_json_is_read(media_type: str, status: int) -> None:
    body = b'{"messages": [{"role": "user", "content": "Hi"}]}'
    async with gateway(says("Hi")) as running:
        response = await running.client.post(
            CHAT, content=body, headers={"content-type": media_type}
        )
    assert response.status_code == status


@pytest.mark.parametrize("declared", [True, False])
async def test_a_large_body_is_refused_while_it_is_read(declared: bool) -> None:
    async def pieces() -> Any:
        for _ in range(50):
            yield b" " * 1000

    async with gateway(says("Hi"), max_body_bytes=10_000) as running:
        response = await running.client.post(
            CHAT,
            content=b" " * 50_000 if declared else pieces(),
            headers={"content-type": "application/json"},
        )
        assert response.status_code == 413
        assert response.json()["error"]["code"] == "request_too_large"
        assert (await running.chat()).status_code == 200


async def test_unknown_paths_and_methods_have_the_one_body() -> None:
    async with gateway() as running:
        missing = await running.client.get("/v2/nothing")
        wrong = await running.client.get(CHAT)
    assert (missing.status_code, missing.json()["error"]["code"]) == (404, "not_found")
    assert (wrong.status_code, wrong.json()["error"]["code"]) == (405, "method_not_allowed")
    assert wrong.headers["allow"] == "POST"
    for response in (missing, wrong):
        assert response.json()["detail"] == response.json()["error"]["message"]


async def test_other_than_http_passes_by() -> None:
    seen = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append(scope["type"])

    await RequestIds(app)({"type": "lifespan"}, None, None)  # type: ignore[arg-type]
    assert seen == ["lifespan"]

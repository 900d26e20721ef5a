"""Who may ask, which tenant they are, and who may give orders."""

from __future__ import annotations

from pathlib import Path

import pytest
from starlette.requests import Request

from gateway.errors import Forbidden
from gateway.http.keys import check_operator
from tests.gateway.fake_dispatch import says
from tests.gateway.serving import gateway, question

CHAT = "/v1/chat/completions"


async def test_a_key_is_wanted_everywhere_but_at_health() -> None:
    async with gateway(says("Hi"), api_key=("key-one", "key-two")) as running:
        for path in ("/v1/models", "/v1/queue/stats", "/metrics", "/ready", "/v1/nope", "/docs"):
            response = await running.client.get(path)
            assert response.status_code == 401, path
            assert response.json()["error"]["code"] == "invalid_api_key"
            assert response.headers["www-authenticate"] == "Bearer"
            assert response.headers["x-request-id"]
        assert (await running.client.get("/health")).status_code == 200
        assert (await running.chat()).status_code == 401
        for headers in (
            {"authorization": "Bearer key-one"},
            {"authorization": "bearer  key-two"},
            {"x-api-key": "key-one"},
        ):
            assert (await running.client.get("/v1/models", headers=headers)).status_code == 200
        for headers in (
            {"authorization": "Bearer key-onex"},
            {"authorization": "Basic key-one"},
            {"authorization": "key-one"},
            {"authorization": "Bearer"},
            {"x-api-key": "KEY-ONE"},
        ):
            assert (await running.client.get("/v1/models", headers=headers)).status_code == 401


async def test_keys_come_from_a_file_and_separate_tenants(tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    keys.write_text("# ours\nalpha\n\nbeta\n")
    async with gateway(says("Hi"), api_key_file=str(keys)) as running:
        for key in ("alpha", "beta", "alpha"):
            response = await running.client.post(
                CHAT, json=question(), headers={"authorization": f"Bearer {key}"}
            )
            assert response.status_code == 200
        salts = [ticket.job.cache_salt for ticket in running.dispatch.tickets if ticket.job]
    assert salts[0] == salts[2] != salts[1]
    assert "alpha" not in salts[0]


def order(caller: str, host: str) -> Request:
    """An order that comes from an address, by a host name."""
    headers = [(b"host", host.encode())]
    return Request({"type": "http", "path": "/", "headers": headers, "client": (caller, 5)})


@pytest.mark.parametrize("caller", ["127.0.0.1", "::1"])
@pytest.mark.parametrize("host", ["localhost:8000", "127.0.0.1", "[::1]:8000"])
def test_without_keys_this_machine_gives_orders(caller: str, host: str) -> None:
    check_operator(order(caller, host), keys_are_set=False)


@pytest.mark.parametrize(
    ("caller", "host"),
    [
        ("192.168.1.7", "mac.local"),
        ("192.168.1.7", "localhost"),
        ("127.0.0.1", "rebound.example"),
        ("127.0.0.1", "127.0.0.1.example"),
    ],
)
def test_without_keys_nobody_else_does(caller: str, host: str) -> None:
    with pytest.raises(Forbidden, match="--api-key"):
        check_operator(order(caller, host), keys_are_set=False)


def test_with_keys_every_holder_gives_orders() -> None:
    check_operator(order("192.168.1.7", "mac.local"), keys_are_set=True)

"""Who may ask, which tenant they are, and who may give orders."""

from __future__ import annotations

from pathlib import Path

import pytest
from starlette.requests import Request

from gateway.errors import Forbidden, InvalidApiKey
from gateway.http.keys import Keys, check_operator
from gateway.settings import Settings
from shared.settings import SettingsError
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


def order(caller: str, host: str, **headers: str) -> Request:
    """An order that comes from an address, by a host name."""
    sent = [(b"host", host.encode())]
    sent += [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    scope = {"type": "http", "path": "/", "headers": sent, "client": (caller, 5), "state": {}}
    return Request(scope)


NO_KEYS = Keys(Settings())
API_KEYS = Keys(Settings(api_key=("api",)))
ADMIN_KEYS = Keys(Settings(admin_key=("admin",)))


@pytest.mark.parametrize("caller", ["127.0.0.1", "::1", "::ffff:127.0.0.1"])
@pytest.mark.parametrize("host", ["localhost:8000", "127.0.0.1", "[::1]:8000"])
def test_without_keys_this_machine_gives_orders(caller: str, host: str) -> None:
    check_operator(order(caller, host), NO_KEYS)
    check_operator(order(caller, host, origin="http://localhost:8000"), NO_KEYS)


@pytest.mark.parametrize(
    ("caller", "host"),
    [
        ("192.168.1.7", "mac.local"),
        ("192.168.1.7", "localhost"),
        ("::ffff:192.168.1.7", "localhost"),
        ("127.0.0.1", "rebound.example"),
        ("127.0.0.1", "127.0.0.1.example"),
        ("127.0.0.1", "[::1.example"),
        ("127.0.0.1", ""),
    ],
)
def test_without_keys_nobody_else_does(caller: str, host: str) -> None:
    with pytest.raises(Forbidden, match="--admin-key"):
        check_operator(order(caller, host), NO_KEYS)


@pytest.mark.parametrize(
    "passed_on",
    [
        {"forwarded": "for=192.0.2.7"},
        {"via": "1.1 proxy"},
        {"x_real_ip": "192.0.2.7"},
        {"x_forwarded_for": "127.0.0.1"},
        {"x_forwarded_proto": ""},
        {"x_forwarded_host": "localhost"},
        {"origin": "https://page.example"},
        {"origin": "null"},
        {"origin": "http://[localhost"},
    ],
)
def test_without_keys_nobody_does_from_behind_this_machine(passed_on: dict[str, str]) -> None:
    """A reverse proxy on this machine, or a page in its browser, asks for somebody else."""
    with pytest.raises(Forbidden, match="--admin-key"):
        check_operator(order("127.0.0.1", "localhost", **passed_on), NO_KEYS)


def test_with_api_keys_every_holder_gives_orders() -> None:
    check_operator(order("192.168.1.7", "mac.local", x_forwarded_for="192.0.2.7"), API_KEYS)


@pytest.mark.parametrize("sent", [{"authorization": "Bearer admin"}, {"x_api_key": "admin"}])
def test_with_admin_keys_their_holders_give_orders(sent: dict[str, str]) -> None:
    check_operator(order("192.168.1.7", "mac.local", **sent), ADMIN_KEYS)


@pytest.mark.parametrize("sent", [{}, {"authorization": "Bearer api"}, {"x_api_key": ""}])
def test_with_admin_keys_nobody_else_does_even_on_this_machine(sent: dict[str, str]) -> None:
    with pytest.raises(InvalidApiKey, match="admin key"):
        check_operator(order("127.0.0.1", "localhost", **sent), ADMIN_KEYS)


async def test_an_admin_key_is_a_key_and_an_api_key_is_no_admin_key() -> None:
    async with gateway(api_key=("api",), admin_key=("admin",)) as running:
        answers = []
        for key in ("api", "admin", "neither"):
            headers = {"authorization": f"Bearer {key}"}
            listed = await running.client.get("/v1/workers", headers=headers)
            ordered = await running.client.post(
                "/v1/workers/w1", json={"action": "drain"}, headers=headers
            )
            code = ordered.json().get("error", {}).get("code")
            answers.append((listed.status_code, ordered.status_code, code))
    assert answers == [
        (200, 403, "admin_key_required"),
        (200, 200, None),
        (401, 401, "invalid_api_key"),
    ]
    assert running.status.orders == [("w1", "drain")]


async def test_an_admin_key_alone_asks_nothing_of_who_gives_no_orders() -> None:
    async with gateway(says("Hi"), admin_key=("admin",)) as running:
        assert (await running.chat()).status_code == 200
        ordered = await running.client.post("/v1/workers/w1", json={"action": "restart"})
    assert ordered.status_code == 401
    assert running.status.orders == []


def test_keys_that_are_read_again_take_the_place_of_the_old(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_text("first\n")
    keys = Keys(Settings(admin_key_file=str(file)))
    file.write_text("second\n")
    keys.read()
    check_operator(order("192.0.2.7", "mac.local", x_api_key="second"), keys)
    with pytest.raises(InvalidApiKey):
        check_operator(order("192.0.2.7", "mac.local", x_api_key="first"), keys)
    file.write_text("# none\n")
    with pytest.raises(SettingsError, match="--admin-key-file"):
        keys.read()
    check_operator(order("192.0.2.7", "mac.local", x_api_key="second"), keys)

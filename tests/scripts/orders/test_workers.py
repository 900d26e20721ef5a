"""`scripts/workers` orders the worker that is meant, or none."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from scripts.orders import ADMIN_KEY_VARIABLE
from scripts.own_server import OwnServer
from scripts.workers import Fleet, main, parse_arguments, rolling_restart
from tests.processes import serving


class Twins(Fleet):
    """Two of three workers have one name; an order would be a mistake."""

    def __init__(self) -> None:
        pass

    def workers(self) -> list[dict[str, Any]]:
        return [{"id": name, "state": "ready", "pid": 1} for name in ("other", "twin", "twin")]


def test_workers_of_one_name_are_not_ordered(capsys: pytest.CaptureFixture[str]) -> None:
    assert "twin" in (Twins().order("twin", "restart") or "")
    problem = rolling_restart(Twins()) or ""
    assert "twin" in problem and "--name" in problem
    assert "other" not in problem + capsys.readouterr().out


@pytest.mark.parametrize("verb", [["list"], ["drain", "one"], ["rolling-restart"]])
def test_the_servers_flags_stand_on_either_side_of_the_verb(
    verb: list[str], tmp_path: Path
) -> None:
    own, flags = OwnServer(tmp_path), ["--url", "mac:9000", "--key", "k", "--admin-key", "a"]
    before, after = parse_arguments(own, [*flags, *verb]), parse_arguments(own, [*verb, *flags])
    assert before == after
    assert (after.url, after.key, after.admin_key) == ("http://mac:9000", "k", "a")
    assert parse_arguments(own, verb).url == own.url


def test_orders_are_given_with_an_admin_key(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv(ADMIN_KEY_VARIABLE, raising=False)
    monkeypatch.setenv("OPENAI_API_KEY", "")
    keys = ("--api-key", "api", "--admin-key", "admin")
    with serving(workers=0, gateway_flags=keys) as service:
        service.client.headers["authorization"] = "Bearer api"
        service.add_worker("--name", "one")
        service.await_ready(1)

        def drains(*flags: str) -> int:
            command = ["workers", "--url", service.url, *flags, "drain", "one"]
            monkeypatch.setattr("sys.argv", command)
            return main()

        assert drains() == 1
        assert "--admin-key" in capsys.readouterr().err
        assert drains("--key", "api") == 1
        assert "holders of an admin key" in capsys.readouterr().err
        assert drains("--key", "api", "--admin-key", "admin") == 0

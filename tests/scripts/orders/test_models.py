"""`scripts/models` lists, loads and unloads through a gateway; what it shows of a catalogue."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from scripts.models import main, parse_arguments, show
from scripts.own_server import OwnServer
from tests.processes import serving


def model(name: str, **fields: Any) -> dict[str, Any]:
    """As `GET /v1/models` has it."""
    status = {"value": "unloaded", "fraction": 0.0, "error": None}
    empty: dict[str, Any] = {
        "draining": False,
        "download": None,
        "memory_bytes": None,
        "pinned": False,
        "idle_s": None,
        "workers": [],
        "aliases": [],
    }
    return {"id": name, "status": status, **empty, **fields}


def test_a_catalogue_is_a_table_with_a_line_for_each_model(
    capsys: pytest.CaptureFixture[str],
) -> None:
    loaded = {"value": "loaded", "fraction": 1.0, "error": None}
    loading = {"value": "loading", "fraction": 0.4, "error": None}
    failed = {"value": "failed", "fraction": 0.0, "error": "its config.json is not JSON"}
    large = model("large", aliases=["gpt-4o"], status=loading)
    show(
        [
            model(
                "small", status=loaded, memory_bytes=3 << 29, pinned=True, idle_s=7, workers=["mac"]
            ),
            large,
            model("broken", status=failed),
            model(
                "coming",
                status={"value": "downloading", "fraction": 0.25, "error": None},
                download={"done_bytes": 1 << 30, "total_bytes": 4 << 30},
            ),
            model("going", status=loaded, draining=True),
            {**large, "id": "gpt-4o"},
        ]
    )
    heading, first, second, third, coming, fourth, error = capsys.readouterr().out.splitlines()
    assert heading.split() == ["MODEL", "STATUS", "MEMORY", "IDLE", "WORKERS", "ALIASES"]
    assert first.split() == ["small", "loaded,", "pinned", "1.50", "GiB", "7", "s", "mac", "-"]
    assert second.split() == ["large", "loading", "40%", "-", "-", "-", "gpt-4o"]
    assert third.split()[:2] == ["broken", "failed"]
    assert coming.split()[:7] == ["coming", "downloading", "25%,", "1.00", "of", "4.00", "GiB"]
    assert fourth.split()[:3] == ["going", "loaded,", "draining"]
    assert error == "broken: its config.json is not JSON"


@pytest.mark.parametrize("verb", [["list"], ["load", "a"], ["unload", "a"]])
def test_the_servers_flags_stand_on_either_side_of_the_verb(
    verb: list[str], tmp_path: Path
) -> None:
    own, flags = OwnServer(tmp_path), ["--url", "mac:9000", "--key", "k", "--admin-key", "a"]
    before, after = parse_arguments(own, [*flags, *verb]), parse_arguments(own, [*verb, *flags])
    assert before == after
    assert (after.url, after.key, after.admin_key) == ("http://mac:9000", "k", "a")


def test_orders_go_to_the_gateway_and_its_words_come_back(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def run(*arguments: str) -> tuple[int, str]:
        monkeypatch.setattr("sys.argv", ["models", "--url", service.url, *arguments])
        code = main()
        told = capsys.readouterr()
        return code, told.out + told.err

    with serving() as service:
        code, told = run("list")
        name = told.splitlines()[1].split()[0]
        assert code == 0 and "loaded" in told
        assert run("load", name) == (0, told)
        code, told = run("unload", name)
        assert code == 1 and "stop that worker instead" in told
        code, told = run("load", "nothing")
        assert code == 1 and name in told

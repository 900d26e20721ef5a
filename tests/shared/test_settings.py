"""Flags over environment over default; a bad value is one clear line and exit code 2."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from gateway.settings import Settings as GatewaySettings
from shared.settings import load, markdown_table, option
from worker.settings import Settings as WorkerSettings


@dataclass(frozen=True)
class Example:
    port: int = option(8000, unit="TCP port", help="where", minimum=1)
    ratio: float = option(0.5, help="how much")
    name: str = option("", help="who", choices=("", "a", "b"))
    endpoint: tuple[str, ...] = option(("x",), help="where to")
    loud: bool = option(False, help="whether")
    limit: int | None = option(None, help="most")


def test_flag_beats_environment_beats_default() -> None:
    assert load(Example, "EX", [], {}) == Example()
    environment = {"EX_PORT": "1", "EX_ENDPOINT": "a, b", "EX_LOUD": "yes", "EX_LIMIT": "3"}
    from_environment = load(Example, "EX", [], environment)
    assert from_environment == Example(port=1, endpoint=("a", "b"), loud=True, limit=3)
    flags = ["--port", "2", "--endpoint", "c", "--endpoint", "d", "--no-loud"]
    from_flags = load(Example, "EX", flags, environment)
    assert from_flags == Example(port=2, endpoint=("c", "d"), loud=False, limit=3)


@pytest.mark.parametrize(
    ("flags", "environment", "words"),
    [
        (["--port", "many"], {}, "--port: expected a whole number, got 'many'"),
        (["--port", "0"], {}, "--port: must be at least 1, got 0"),
        ([], {"EX_RATIO": "x"}, "EX_RATIO: expected a number, got 'x'"),
        (["--ratio", "inf"], {}, "--ratio: expected a number, got 'inf'"),
        (["--ratio", "nan"], {}, "--ratio: expected a number, got 'nan'"),
        ([], {"EX_LOUD": "maybe"}, "EX_LOUD: expected true or false, got 'maybe'"),
        (["--name", "c"], {}, "--name: expected one of , a, b, got 'c'"),
        (["--unknown"], {}, "unknown flag --unknown"),
    ],
)
def test_a_bad_setting_is_one_line_and_exit_code_2(
    flags: list[str],
    environment: dict[str, str],
    words: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit) as stop:
        load(Example, "EX", flags, environment)
    assert stop.value.code == 2
    error = capsys.readouterr().err
    assert words in error and error.count("\n") == 1


@pytest.mark.parametrize("settings_type", [GatewaySettings, WorkerSettings])
def test_help_names_default_and_environment(
    settings_type: type, capsys: pytest.CaptureFixture[str]
) -> None:
    prefix = settings_type.__module__.partition(".")[0].upper()
    with pytest.raises(SystemExit) as stop:
        load(settings_type, prefix, ["--help"], {})
    assert stop.value.code == 0
    shown = " ".join(capsys.readouterr().out.split())
    for row in markdown_table(settings_type, prefix).splitlines()[2:]:
        flag, variable = row.split("`")[1], row.split("`")[3]
        assert flag in shown and f"environment: {variable}" in shown

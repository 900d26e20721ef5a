"""`--help` of every command says what holds where nothing is said."""

from __future__ import annotations

import argparse
import inspect
import sys
from importlib import import_module

import pytest

from scripts.benchmarks.__main__ import QUESTIONS
from tests.processes import ROOT

COMMANDS = {
    "chat": "scripts.chat",
    "clients": "tests.clients.frameworks.run",
    "doctor": "scripts.doctor_checks.__main__",
    "families": "scripts.family_sweep.__main__",
    "gpu_check": "scripts.gpu_checks.__main__",
    "keys": "scripts.keys",
    "models": "scripts.models",
    "soak": "tests.soak.run",
    "workers": "scripts.workers",
    **{f"bench {question}": "scripts.benchmarks.__main__" for question in QUESTIONS},
}
ELSEWHERE = {
    "serve",  # launch/test_flags.py
    "test",  # its flags are pytest's
    *("train_demo_model", "evaluate_demo_model"),  # no modules; one wants PyTorch
    "fuzz",  # wants atheris
}


class Asked(Exception):
    """A command has come to reading its arguments."""

    def __init__(self, parser: argparse.ArgumentParser) -> None:
        self.parser = parser


def parser_of(command: str, monkeypatch: pytest.MonkeyPatch) -> argparse.ArgumentParser:
    def stop(self: argparse.ArgumentParser, *_: object) -> None:
        raise Asked(self)

    monkeypatch.setattr(argparse.ArgumentParser, "parse_args", stop)
    monkeypatch.setattr(sys, "argv", [command])
    main = import_module(COMMANDS[command]).main
    with pytest.raises(Asked) as asked:
        main(command.split()[1:]) if inspect.signature(main).parameters else main()
    return asked.value.parser


@pytest.mark.parametrize(
    "command",
    [pytest.param(name, marks=[pytest.mark.mlx] * name.startswith("bench")) for name in COMMANDS],
)
def test_defaults_are_told(command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    parser = parser_of(command, monkeypatch)
    told = " ".join(parser.format_help().partition("options:")[2].split())
    for action in parser._actions:  # noqa: SLF001 - a parser tells its flags in no other way
        if action.default in (None, False, "", argparse.SUPPRESS) or not action.option_strings:
            continue
        words = told.partition(f" {action.option_strings[-1]} ")[2]
        default = "".join(str(action.default).removesuffix(".0").split())
        # Lines end at blanks, and at the hyphens of a path.
        assert f"default:{default}" in "".join(words.split()), action.option_strings


def test_every_command_is_looked_at() -> None:
    launchers = {
        path.name
        for path in (ROOT / "scripts").iterdir()
        if path.is_file() and not path.suffix and path.read_bytes().startswith(b"#!")
    }
    assert {command.split()[0] for command in COMMANDS} | ELSEWHERE == launchers

"""The flags of `scripts/serve`: each goes to the tier that knows it, as its environment variable.

honcho's processes inherit the variables. A flag that both tiers know (`--log-level`) goes to both.
"""

from __future__ import annotations

import dataclasses
import re
import textwrap
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gateway.settings import Settings as GatewaySettings
from scripts.installation import PROCFILE, command_name, project_file
from shared.model_path import below, split_name
from shared.settings import environment_name, flag_name, help_text, meant
from worker.settings import Settings as WorkerSettings

TIERS: dict[str, type[Any]] = {"GATEWAY": GatewaySettings, "WORKER": WorkerSettings}

PRESET = re.compile(r"\$\{(\w+):-(\w+)\}")
"""What the Procfile gives a tier where nothing else is said."""

FILES = frozenset(
    (
        "--api-key-file",
        "--curve-key",
        "--authorized-workers",
        "--worker-key",
        "--gateway-key",
        "--models",
        "--models-dir",
    )
)
FOLDER_OR_HUB_ID = "--model-path"
IPC = "ipc://"
NO_IPC_PATH = ("/", "@", "*")
"""How an endpoint begins that names no file of the folder one is in."""


@dataclass(frozen=True)
class Target:
    """One environment variable a flag sets; `switch` is its value when the flag takes none.

    Attributes:
        apart: what stands between several values; empty: there is one.
    """

    variable: str
    apart: str = ""
    switch: str | None = None


def flag_targets() -> dict[str, list[Target]]:
    """Every flag of either tier, and the variables it stands for."""
    targets: dict[str, list[Target]] = defaultdict(list)
    for prefix, settings_type in TIERS.items():
        for field in dataclasses.fields(settings_type):
            flag, variable = flag_name(field.name), environment_name(prefix, field.name)
            if isinstance(field.default, bool):
                targets[flag].append(Target(variable, switch="true"))
                targets["--no-" + flag[2:]].append(Target(variable, switch="false"))
            else:
                apart = "," if field.metadata["spaces"] else " "
                several = isinstance(field.default, tuple)
                targets[flag].append(Target(variable, apart if several else ""))
    return targets


def flags_help() -> str:
    """Return what each tier can be told, with what holds where `scripts/serve` starts it."""
    preset = dict(PRESET.findall(project_file(PROCFILE).read_text()))
    lines = ["the start:", *_help("--workers N", "how many workers to start [default: 1]")]
    for prefix, settings_type in TIERS.items():
        lines += ["", f"the {prefix.lower()}:"]
        for field in dataclasses.fields(settings_type):
            variable = environment_name(prefix, field.name)
            words = help_text(field, prefix, preset.get(variable, ""))
            lines += _help(flag_name(field.name), words)
    return "\n".join(lines)


def _help(flag: str, words: str) -> list[str]:
    return [
        f"  {flag}",
        *textwrap.wrap(words, 92, initial_indent=" " * 6, subsequent_indent=" " * 6),
    ]


@dataclass(frozen=True)
class Flags:
    """
    Args:
        environment: what says the same as the flags.
        typed: by tier, the flags as that tier itself would be given them.
    """

    environment: dict[str, str]
    typed: dict[str, list[str]]
    workers: int = 1


def read_flags(argv: Sequence[str], here: Path) -> Flags:
    """
    Args:
        here: the folder that relative paths start from; the tiers run in another one.

    Raises:
        ValueError: a flag nobody knows, or one whose value is missing or cannot be handed on.
    """
    known = flag_targets() | {"--workers": [Target("WORKERS")]}
    flags = Flags({}, {tier: [] for tier in TIERS})
    rest = [part for word in argv for part in _split(word)]
    while rest:
        flag = rest.pop(0)
        if flag not in known:
            raise ValueError(_unknown(flag, known))
        takes_value = known[flag][0].switch is None
        if takes_value and not rest:
            raise ValueError(f"{flag} needs a value")
        value = _absolute(flag, rest.pop(0), here) if takes_value else ""
        for target in known[flag]:
            if target.apart:
                _check_one_value(flag, value, spaces=target.apart == ",")
            _set(flags.environment, target, value)
            if (tier := target.variable.partition("_")[0]) in TIERS:
                flags.typed[tier].append(f"{flag}={value}" if takes_value else flag)
    workers = flags.environment.pop("WORKERS", "1")
    if not workers.isdecimal() or int(workers) < 1:
        raise ValueError(f"--workers: expected a number of at least 1, got {workers!r}")
    return dataclasses.replace(flags, workers=int(workers))


def _unknown(word: str, known: Iterable[str]) -> str:
    serve = command_name("serve")
    if not word.startswith("-"):
        return f"{word!r} is no flag ({serve} --help lists them); a model is --model-path {word}"
    return f"unknown flag {word}{meant(word, known)} ({serve} --help lists them)"


def _split(word: str) -> list[str]:
    flag, equals, value = word.partition("=")
    return [flag, value] if word.startswith("--") and equals else [word]


def _absolute(flag: str, value: str, here: Path) -> str:
    """Return the value with a path in it made absolute."""
    if flag in FILES and value:
        return str(below(value, here))
    if flag == FOLDER_OR_HUB_ID and value:
        name, path = split_name(value, here)
        place = str(below(path, here)) if below(path, here).is_dir() else path
        return place if path == value else f"{name}={place}"
    if value.startswith(IPC) and not value.removeprefix(IPC).startswith(NO_IPC_PATH):
        return f"{IPC}{here / value.removeprefix(IPC)}"
    return value


def _check_one_value(flag: str, value: str, *, spaces: bool) -> None:
    """A variable that holds several values has commas between them, or spaces where none of them
    may have any.

    Raises:
        ValueError: the tier would read another number of values than one.
    """
    if not value and flag != FOLDER_OR_HUB_ID:
        raise ValueError(f"{flag} needs a value, and got an empty one")
    if re.search("," if spaces else r"[,\s]", value):
        if flag == "--api-key":
            raise ValueError(
                f"{flag}: a key given here may hold no comma and no space; put it into a file, "
                "one key a line, and name that: --api-key-file"
            )
        raise ValueError(
            f"{flag}: a value may hold no comma{'' if spaces else ' and no space'}, got "
            f"{value!r}; for several, repeat the flag"
        )


def _set(environment: dict[str, str], target: Target, value: str) -> None:
    before = environment.get(target.variable, "") if target.apart else ""
    environment[target.variable] = target.switch or f"{before}{target.apart}{value}".strip(" ,")

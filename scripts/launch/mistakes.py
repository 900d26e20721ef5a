"""What the settings of a folder say wrongly: the same sentences from every command."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from gateway.settings import Settings as Gateway
from gateway.settings import read_admin_keys, read_api_keys
from scripts.launch.flags import FILES, TIERS, flag_targets
from shared.environment_file import FILE, EnvironmentFile
from shared.model_path import below
from shared.settings import SettingsError, as_set, from_environment, meant
from worker.settings import Settings as Worker


def oddities(file: EnvironmentFile) -> Iterator[str]:
    """What the user has written into `.env` in vain; values may be secrets and are not repeated."""
    for line in file.meaningless:
        yield f"{FILE}, line {line}, sets nothing: NAME=VALUE is expected"
    known = {target.variable for targets in flag_targets().values() for target in targets}
    for name in sorted(file.values.keys() - known):
        if name.partition("_")[0] in TIERS:
            yield f"{FILE} sets {name}, which nothing reads{meant(name, known)}"


def check(environment: Mapping[str, str], file: EnvironmentFile, folder: Path) -> None:
    """
    Args:
        environment: what the tiers would have, `file`'s values among it.
        folder: where they would run.

    Raises:
        SettingsError: a tier that is started there would refuse it.
    """
    there = dict(environment)
    for variable in (target.variable for flag in FILES for target in flag_targets()[flag]):
        if path := there.get(variable):
            there[variable] = str(below(path, folder))
    gateway = from_environment(Gateway, "GATEWAY", there, file.called)
    from_environment(Worker, "WORKER", there, file.called)
    read_keys(gateway, (), there, file)


def read_keys(
    gateway: Gateway, argv: Sequence[str], environment: Mapping[str, str], file: EnvironmentFile
) -> tuple[str, ...]:
    """Return the API keys.

    Args:
        argv: the flags that the gateway is given.

    Raises:
        SettingsError: they or the admin keys cannot be read, or are none.
    """
    try:
        read_admin_keys(gateway)
        return read_api_keys(gateway)
    except SettingsError as error:
        words = as_set(str(error), Gateway, "GATEWAY", argv, environment, file.called)
        raise SettingsError(words) from None

"""`.env`: what is set for whatever is started in a folder, the same to every command.

It is read as honcho reads it: a name in it comes before the same name in the environment.
"""

from __future__ import annotations

import os
import re
import sys
from dataclasses import dataclass, field
from pathlib import Path

from shared.settings import SettingsError

FILE = ".env"
HONCHO_PROCESS = "HONCHO_PROCESS_NAME"
"""What honcho gives each process that it starts."""

EMPTY = re.compile(r"\s*(\w+\s*=\s*)?(#.*)?")
"""Nothing, a comment, or a name that is left to its default."""


@dataclass(frozen=True)
class EnvironmentFile:
    """Both are empty where there is no such file."""

    values: dict[str, str] = field(default_factory=dict)
    meaningless: list[int] = field(default_factory=list)
    """The lines, counted from 1, that set nothing and are no comments: honcho passes over them."""

    def called(self, variable: str) -> str:
        """How errors name a variable of the environment."""
        return f"{variable} in {FILE}" if variable in self.values else variable


def read(path: Path) -> EnvironmentFile:
    """
    Raises:
        SettingsError: the file cannot be read, or a quote in it has no end.
    """
    try:
        lines = path.read_text().splitlines()
    except FileNotFoundError:
        return EnvironmentFile()
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path} cannot be read: {error}") from None
    # Here, so that a command without a file needs no honcho.
    from honcho.environ import parse

    found = EnvironmentFile()
    for number, line in enumerate(lines, 1):
        try:
            values = parse(line)
        except ValueError as error:
            raise SettingsError(f"{path}, line {number}: {error}") from None
        found.values.update(values)
        if not values and not EMPTY.fullmatch(line):
            found.meaningless.append(number)
    return found


def enter() -> EnvironmentFile:
    """Let the file of the folder that this process runs in set its environment, and return it, or
    print one line and exit with 2.

    What honcho has started has been given its settings: by this file, or by another one.
    """
    if HONCHO_PROCESS in os.environ:
        return EnvironmentFile()
    try:
        file = read(Path(FILE))
    except SettingsError as error:
        print(error, file=sys.stderr)
        raise SystemExit(2) from None
    os.environ.update(file.values)
    return file

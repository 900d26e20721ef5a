"""Settings, declared once: a frozen dataclass whose fields are flags, variables and docs.

    @dataclass(frozen=True)
    class Settings:
        port: int = option(8000, unit="TCP port", help="where HTTP clients connect")

gives `--port`, `GATEWAY_PORT` (with the prefix `GATEWAY`), a line of `--help` and a row of the
table in `docs/flags.md`. A flag wins over the environment, the environment over the default. A bad
value stops the start with one line and exit code 2.
"""

from __future__ import annotations

import argparse
import dataclasses
import difflib
import math
import os
import re
import sys
import typing
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NoReturn, TypeVar

from shared.version import VERSION_LINE

_TRUE = {"1", "true", "yes", "on"}
_FALSE = {"0", "false", "no", "off", ""}

T = TypeVar("T")


class SettingsError(ValueError):
    """A setting has a value that cannot be used; the message names the setting."""


def option(
    default: Any,
    *,
    help: str,
    unit: str = "",
    choices: Sequence[str] = (),
    minimum: float | None = None,
    maximum: float | None = None,
    secret: bool = False,
    spaces: bool = False,
) -> Any:
    """Declare one setting. A tuple default makes the flag repeatable; False makes it a switch.

    Args:
        spaces: whether a value of a repeatable one may hold spaces: its variable has commas alone
            between several.
    """
    return dataclasses.field(
        default=default,
        metadata={
            "help": help,
            "unit": unit,
            "choices": tuple(choices),
            "minimum": minimum,
            "maximum": maximum,
            "secret": secret,
            "spaces": spaces,
        },
    )


def load(
    settings_type: type[T],
    prefix: str,
    argv: Sequence[str] | None = None,
    environ: Mapping[str, str] | None = None,
    program: str = "",
    called: Callable[[str], str] = str,
) -> T:
    """Read flags and environment into `settings_type`, or print one line and exit with 2.

    Args:
        program: how what is printed names the command; empty: as it was called.
        called: how errors name a variable of the environment, for who knows where it was set.
    """
    environ = os.environ if environ is None else environ
    parser = OneLineParser(prog=program or _called(prefix), allow_abbrev=False)
    parser.add_argument("--version", action="version", version=VERSION_LINE)
    for field in dataclasses.fields(settings_type):  # type: ignore[arg-type]
        _add_flag(parser, field, prefix)
    argv = sys.argv[1:] if argv is None else argv
    flags = vars(parser.parse_args(argv))
    try:
        return _build(settings_type, prefix, flags, environ)
    except SettingsError as error:
        parser.error(as_set(str(error), settings_type, prefix, argv, environ, called))


def from_environment(
    settings_type: type[T],
    prefix: str,
    environ: Mapping[str, str],
    called: Callable[[str], str] = str,
) -> T:
    """The settings of a tier that is given no flags.

    Raises:
        SettingsError: it would refuse them, in these words.
    """
    try:
        return _build(settings_type, prefix, {}, environ)
    except SettingsError as error:
        words = as_set(str(error), settings_type, prefix, (), environ, called)
        raise SettingsError(words) from None


def as_set(
    words: str,
    settings_type: type[Any],
    prefix: str,
    argv: Sequence[str],
    environ: Mapping[str, str],
    called: Callable[[str], str] = str,
) -> str:
    """What is wrong, with each setting named by where its value came from: whoever checks values
    knows them by their flags, and the user may have typed none."""
    typed = {word.partition("=")[0] for word in argv}
    for field in dataclasses.fields(settings_type):
        flag, variable = flag_name(field.name), environment_name(prefix, field.name)
        if flag not in typed and variable in environ:
            either = rf"(?<![\w-])({flag}|{variable})(?![\w-])"
            words = re.sub(either, called(variable), words)
    return words


def with_values(settings: T, values: Mapping[str, Any], source: str) -> T:
    """The same with these fields set, each checked as its flag is.

    Args:
        source: where the values stand; errors name it.

    Raises:
        SettingsError: a value cannot be used.
    """
    hints = typing.get_type_hints(type(settings))
    fields = {field.name: field for field in dataclasses.fields(settings)}  # type: ignore[arg-type]
    checked = {
        name: _converted(
            value if isinstance(value, bool) else str(value),
            fields[name],
            hints[name],
            f"{source}: {name}",
        )
        for name, value in values.items()
    }
    return dataclasses.replace(settings, **checked)  # type: ignore[type-var]


def as_flags(settings: Any) -> list[str]:
    """Flags that say what these settings say, of all that have a value."""
    flags: list[str] = []
    for field in dataclasses.fields(settings):
        value, flag = getattr(settings, field.name), flag_name(field.name)
        if isinstance(value, bool):
            flags.append(flag if value else "--no-" + flag[2:])
        elif isinstance(value, tuple):
            flags += [f"{flag}={item}" for item in value]
        elif value is not None:
            flags.append(f"{flag}={value}")
    return flags


def flag_name(field_name: str) -> str:
    return "--" + field_name.replace("_", "-")


def environment_name(prefix: str, field_name: str) -> str:
    return f"{prefix}_{field_name.upper()}"


def help_text(field: dataclasses.Field[Any], prefix: str, default: str = "") -> str:
    """Return what `--help` says of a setting, with its default (or another one) and variable."""
    return (
        f"{_meaning(field)} [default: {default or _shown_default(field)}; "
        f"environment: {environment_name(prefix, field.name)}]"
    )


def markdown_table(settings_type: type[Any], prefix: str) -> str:
    """Return the settings as a Markdown table, in the order they are declared."""
    rows = ["| flag | environment | default | meaning |", "|---|---|---|---|"]
    for field in dataclasses.fields(settings_type):
        rows.append(
            f"| `{flag_name(field.name)}` | `{environment_name(prefix, field.name)}` "
            f"| {_shown_default(field)} | {_meaning(field)} |"
        )
    return "\n".join(rows)


def _called(prefix: str) -> str:
    """An installed command gives its words as the program's name, `python -m` a file."""
    name = sys.argv[0]
    return f"python -m {prefix.lower()}" if os.sep in name or not name else name


class OneLineParser(argparse.ArgumentParser):
    """Says in one line what is wrong; a flag that nobody knows first, whatever it was taken for."""

    def parse_args(  # type: ignore[override]  # argparse's own is generic in a namespace of yours
        self, args: Sequence[str] | None = None, namespace: argparse.Namespace | None = None
    ) -> argparse.Namespace:
        known = set(self.flags())
        for word in sys.argv[1:] if args is None else args:
            if word == "--":
                break
            flag = re.fullmatch(r"(--[\w-]+)(=.*)?", word, re.DOTALL)
            if flag is not None and not self._means_one_of(known, flag[1]):
                self.error(f"unknown flag {flag[1]}{meant(flag[1], known)}")
        return super().parse_args(args, namespace)

    def error(self, message: str) -> NoReturn:
        print(f"{self.prog}: {message}", file=sys.stderr)
        raise SystemExit(2)

    def flags(self) -> Iterator[str]:
        """All that it knows, those of its verbs among them."""
        for action in self._actions:
            yield from action.option_strings
            for verb in action.choices.values() if isinstance(action.choices, dict) else ():
                yield from verb.flags()

    def _means_one_of(self, known: Iterable[str], typed: str) -> bool:
        return any(
            name == typed or (self.allow_abbrev and name.startswith(typed)) for name in known
        )


def meant(typed: str, known: Iterable[str]) -> str:
    """Return the end of a sentence about a name nobody knows: which one may be meant."""
    close = difflib.get_close_matches(typed, known, n=1)
    return f"; is {close[0]} meant?" if close else ""


def _add_flag(parser: argparse.ArgumentParser, field: dataclasses.Field[Any], prefix: str) -> None:
    words = help_text(field, prefix).replace("%", "%%")
    name = flag_name(field.name)
    if isinstance(field.default, bool):
        parser.add_argument(name, action=argparse.BooleanOptionalAction, default=None, help=words)
    else:
        action = "append" if isinstance(field.default, tuple) else "store"
        metavar = field.name.split("_")[-1].upper()
        parser.add_argument(name, action=action, default=None, metavar=metavar, help=words)


def _build(
    settings_type: type[T], prefix: str, flags: Mapping[str, Any], environ: Mapping[str, str]
) -> T:
    values: dict[str, Any] = {}
    hints = typing.get_type_hints(settings_type)
    for field in dataclasses.fields(settings_type):  # type: ignore[arg-type]
        raw = flags.get(field.name)
        source = flag_name(field.name)
        if raw is None:
            source = environment_name(prefix, field.name)
            raw = environ.get(source)
            if raw is None:
                continue
            if isinstance(field.default, tuple):
                apart = "," if field.metadata["spaces"] else r"[,\s]+"
                raw = [item.strip() for item in re.split(apart, raw) if item.strip()]
        values[field.name] = _converted(raw, field, hints[field.name], source)
    return settings_type(**values)


def _converted(raw: Any, field: dataclasses.Field[Any], hint: Any, source: str) -> Any:
    if isinstance(field.default, bool):
        return _as_bool(raw, source)
    members = typing.get_args(hint)
    scalar = next((m for m in members if m not in (type(None), Ellipsis)), hint)
    if isinstance(field.default, tuple):
        return tuple(_as_scalar(item, scalar, field, source) for item in raw)
    return _as_scalar(raw, scalar, field, source)


def _as_bool(raw: Any, source: str) -> bool:
    if isinstance(raw, bool):
        return raw
    if raw.strip().lower() in _TRUE:
        return True
    if raw.strip().lower() in _FALSE:
        return False
    raise SettingsError(f"{source}: expected true or false, got {raw!r}")


def _as_scalar(
    raw: str, convert: Callable[[str], Any], field: dataclasses.Field[Any], source: str
) -> Any:
    try:
        value = convert(raw)
    except ValueError:
        kind = {int: "a whole number", float: "a number"}.get(convert, "a value")  # type: ignore[call-overload]
        raise SettingsError(f"{source}: expected {kind}, got {raw!r}") from None
    if isinstance(value, float) and not math.isfinite(value):
        raise SettingsError(f"{source}: expected a number, got {raw!r}")
    choices = field.metadata["choices"]
    if choices and value not in choices:
        raise SettingsError(f"{source}: expected one of {', '.join(choices)}, got {raw!r}")
    minimum = field.metadata["minimum"]
    if minimum is not None and not value >= minimum:
        raise SettingsError(f"{source}: must be at least {minimum:g}, got {raw}")
    maximum = field.metadata["maximum"]
    if maximum is not None and not value <= maximum:
        raise SettingsError(f"{source}: must be at most {maximum:g}, got {raw}")
    return value


def _meaning(field: dataclasses.Field[Any]) -> str:
    unit = field.metadata["unit"]
    choices = field.metadata["choices"]
    repeatable = isinstance(field.default, tuple)
    notes = [unit] * bool(unit) + [" or ".join(choices)] * bool(choices)
    apart = "; commas between several" if field.metadata["spaces"] else ""
    notes += [f"repeatable{apart}"] * repeatable
    help_text: str = field.metadata["help"]
    return help_text + (f" ({'; '.join(notes)})" if notes else "")


def _shown_default(field: dataclasses.Field[Any]) -> str:
    default = field.default
    if isinstance(default, bool):
        return "on" if default else "off"
    if default is None or default == () or default == "":
        return "none"
    if isinstance(default, tuple):
        return ", ".join(str(item) for item in default)
    return str(default)

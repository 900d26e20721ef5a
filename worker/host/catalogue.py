"""The operator's list: which models a host may load, from flags, a folder of them and a file."""

from __future__ import annotations

import dataclasses
import logging
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shared.messages import MAX_ALIASES, MAX_CATALOGUE
from shared.model_path import expanded
from shared.settings import SettingsError, with_values
from worker.host.safetensors_header import has_tensors
from worker.settings import Settings

log = logging.getLogger(__name__)

OWN_KEYS = frozenset({"path", "aliases", "pin", "preload", "idle_unload"})
ENGINE_FLAGS = frozenset(
    {
        "trust_remote_code",
        "max_concurrency",
        "max_streams",
        "max_context",
        "image_position",
        "speculate",
        "stall_timeout",
        "drain_timeout",
        "recycle_after_requests",
        "recycle_memory_gib",
        "prefix_cache_gib",
        "vision_cache_gib",
    }
)
"""Settings that one model may have for itself."""
MOST_NAME_CHARACTERS = 128
"""Half of what gateways take: an engine's name has its worker's before its model's."""
MOST_NAMES = 4096
"""Of all models together: what a host tells of them is one message."""
MOST_IDLE_S = 2**31 - 1
"""As a request's `ttl`."""


Stamp = tuple[str, int]
"""Where a folder leads, and when a file last came into it or left; None of what is not here."""


@dataclass(frozen=True)
class Model:
    """
    Attributes:
        path: a folder or a hub id, as the operator names it.
        idle_unload_s: after so many seconds without a job it leaves; 0: never.
        settings: all that its engine process is told.
        kept: its worker has no other model: it is loaded at the start, whatever it takes, never
            leaves, and the worker ends where it cannot be loaded.
    """

    name: str
    path: str
    settings: Settings
    aliases: tuple[str, ...] = ()
    pinned: bool = False
    preload: bool = False
    idle_unload_s: float = 0.0
    kept: bool = False
    stamp: Stamp | None = None


def stamp_of(path: str) -> Stamp | None:
    folder = Path(path)
    try:
        return str(folder.resolve()), folder.stat().st_mtime_ns
    except OSError:
        return None


def read_catalogue(settings: Settings) -> tuple[Model, ...]:
    """
    Raises:
        SettingsError: a name is taken twice, a file or folder cannot be read, or a value cannot be
            used; the message says which.
    """
    if not settings.is_host:
        return (_only_model(settings),)
    found: dict[str, str] = {}
    folders = [(folder.name, str(folder)) for folder in _folders(settings.models_dir)]
    for name, path in (*settings.named_paths, *folders):
        if name in found:
            raise SettingsError(
                f"--model-path: {found[name]} and {path} are both called {name}; name one of them "
                "otherwise: --model-path NAME=PATH"
            )
        found[name] = path
    told = _read_toml(settings.models)
    names = [*found, *(name for name in told if name not in found)]
    models = [_model(name, found.get(name), told.get(name, {}), settings) for name in names]
    _check_names(models)
    return tuple(models)


def _only_model(settings: Settings) -> Model:
    name, *aliases = settings.model_names
    named = dataclasses.replace(settings, served_model_name=(name, *aliases))
    return Model(
        name, settings.model, named, aliases=tuple(aliases), pinned=True, preload=True, kept=True
    )


def _folders(models_dir: str) -> list[Path]:
    if not models_dir:
        return []
    folder = expanded(models_dir)
    try:
        if not folder.is_dir():
            raise SettingsError(f"--models-dir: {models_dir} is no folder")
        return [inside for inside in sorted(folder.iterdir()) if _holds_checkpoint(inside)]
    except OSError as error:
        raise SettingsError(f"--models-dir: {error}") from None


def _holds_checkpoint(folder: Path) -> bool:
    try:
        return (folder / "config.json").is_file() and has_tensors(folder)
    except OSError as error:  # a disk's own folders are closed to most: .Spotlight-V100
        log.warning("--models-dir: %s is passed over: %s", folder, error)
        return False


def _read_toml(file: str) -> Mapping[str, Mapping[str, Any]]:
    if not file:
        return {}
    try:
        content = tomllib.loads(expanded(file).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise SettingsError(f"--models: {file}: {error}") from None
    models = content.get("models", {})
    unknown = content.keys() - {"models"}
    if unknown or not isinstance(models, dict):
        raise SettingsError(f"--models: {file}: only tables [models.NAME] are known")
    return models


def _model(name: str, found: str | None, told: Mapping[str, Any], settings: Settings) -> Model:
    where = f"[models.{name}]"
    if not isinstance(told, dict):
        raise SettingsError(f"{where}: expected a table")
    if unknown := told.keys() - OWN_KEYS - ENGINE_FLAGS:
        raise SettingsError(f"{where}: unknown: {', '.join(sorted(unknown))}")
    path = told.get("path", found)
    if not isinstance(path, str) or not path:
        raise SettingsError(f"{where}: path: a folder or a hub id is wanted")
    folder = expanded(path)
    if "\0" in path:
        raise SettingsError(f"{where}: path: {path!r} is no path")
    aliases = _aliases(told.get("aliases", []), where)
    for called in (name, *aliases):
        if not 0 < len(called) <= MOST_NAME_CHARACTERS or not called.isprintable():
            raise SettingsError(f"{where}: {called!r} is no name for a model")
    own = {key: value for key, value in told.items() if key in ENGINE_FLAGS}
    stamp = stamp_of(str(folder))
    place = stamp[0] if stamp else path
    alone = dataclasses.replace(
        settings,
        models="",
        models_dir="",
        model_path=(place,),
        served_model_name=(name, *aliases),
    )
    return Model(
        name,
        str(folder) if stamp else path,
        with_values(alone, own, where),
        aliases=aliases,
        pinned=_switch(told, "pin", where),
        preload=_switch(told, "preload", where),
        idle_unload_s=_seconds(told.get("idle_unload", settings.idle_unload), where),
        stamp=stamp,
    )


def _aliases(told: Any, where: str) -> tuple[str, ...]:
    if not isinstance(told, list) or not all(isinstance(one, str) for one in told):
        raise SettingsError(f"{where}: aliases: expected a list of names")
    if len(told) >= MAX_ALIASES:
        raise SettingsError(f"{where}: aliases: at most {MAX_ALIASES - 1}")
    return tuple(told)


def _switch(told: Mapping[str, Any], key: str, where: str) -> bool:
    value = told.get(key, False)
    if not isinstance(value, bool):
        raise SettingsError(f"{where}: {key}: expected true or false")
    return value


def _seconds(value: Any, where: str) -> float:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or not 0 <= value <= MOST_IDLE_S:
        raise SettingsError(f"{where}: idle_unload: expected seconds, 0 to {MOST_IDLE_S}")
    return float(value)


def _check_names(models: Sequence[Model]) -> None:
    """That all can be told to gateways: who says more than a message holds is not heard at all."""
    seen: set[str] = set()
    if len(models) > MAX_CATALOGUE:
        raise SettingsError(f"{len(models)} models are listed, and at most {MAX_CATALOGUE} can be")
    for model in models:
        for name in (model.name, *model.aliases):
            if name in seen:
                raise SettingsError(f"[models.{model.name}]: the name {name} is taken twice")
            seen.add(name)
    if len(seen) > MOST_NAMES:
        raise SettingsError(f"the models have {len(seen)} names, and at most {MOST_NAMES} can be")

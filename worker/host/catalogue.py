"""The operator's list: which models a host may load, from flags, a folder of them and a file."""

from __future__ import annotations

import dataclasses
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shared.settings import SettingsError, with_values
from worker.host.safetensors_header import has_tensors
from worker.settings import Settings

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
MOST_NAME_CHARACTERS = 256


@dataclass(frozen=True)
class Model:
    """
    Attributes:
        path: a folder or a hub id.
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


def read_catalogue(settings: Settings) -> tuple[Model, ...]:
    """
    Raises:
        SettingsError: a name is taken twice, a file cannot be read, or a value cannot be used; the
            message says which.
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
    folder = Path(models_dir).expanduser()
    if not folder.is_dir():
        raise SettingsError(f"--models-dir: {models_dir} is no folder")
    inside = sorted(folder.iterdir())
    return [one for one in inside if (one / "config.json").is_file() and has_tensors(one)]


def _read_toml(file: str) -> Mapping[str, Mapping[str, Any]]:
    if not file:
        return {}
    try:
        content = tomllib.loads(Path(file).expanduser().read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
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
    folder = Path(path).expanduser()
    own = {key: value for key, value in told.items() if key in ENGINE_FLAGS}
    place = str(folder.resolve()) if folder.is_dir() else path
    aliases = _aliases(told.get("aliases", []), where)
    alone = dataclasses.replace(
        settings,
        models="",
        models_dir="",
        model_path=(place,),
        served_model_name=(name, *aliases),
    )
    return Model(
        name,
        place,
        with_values(alone, own, where),
        aliases=aliases,
        pinned=_switch(told, "pin", where),
        preload=_switch(told, "preload", where),
        idle_unload_s=_seconds(told.get("idle_unload", settings.idle_unload), where),
    )


def _aliases(told: Any, where: str) -> tuple[str, ...]:
    if not isinstance(told, list) or not all(isinstance(one, str) for one in told):
        raise SettingsError(f"{where}: aliases: expected a list of names")
    return tuple(told)


def _switch(told: Mapping[str, Any], key: str, where: str) -> bool:
    value = told.get(key, False)
    if not isinstance(value, bool):
        raise SettingsError(f"{where}: {key}: expected true or false")
    return value


def _seconds(value: Any, where: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not value >= 0:
        raise SettingsError(f"{where}: idle_unload: expected seconds, 0 or more")
    return float(value)


def _check_names(models: Iterable[Model]) -> None:
    seen: set[str] = set()
    for model in models:
        for name in (model.name, *model.aliases):
            if not 0 < len(name) <= MOST_NAME_CHARACTERS or not name.isprintable():
                raise SettingsError(f"[models.{model.name}]: {name!r} is no name for a model")
            if name in seen:
                raise SettingsError(f"[models.{model.name}]: the name {name} is taken twice")
            seen.add(name)

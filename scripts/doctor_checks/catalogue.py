"""The models of a worker that has several: those of flags, of a folder, and of a file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from scripts.doctor_checks.findings import Finding, fine, note, wrong
from scripts.doctor_checks.model import check_model, named_models
from scripts.own_server import OwnServer
from shared.model_path import HUB_ID

FILE, FOLDER = "WORKER_MODELS", "WORKER_MODELS_DIR"


def has_catalogue(own: OwnServer) -> bool:
    """Whether the settings here give a worker several models."""
    told = own.environment.get(FILE) or own.environment.get(FOLDER)
    return bool(told) or len(named_models(own)) > 1


def check_catalogue(own: OwnServer) -> Iterator[Finding]:
    """Look at every model that a worker with these settings would list."""
    try:
        in_folder = _of_folder(own.path(FOLDER))
        models = {**named_models(own), **in_folder, **_of_file(own.path(FILE))}
    except _Unreadable as error:
        yield wrong(str(error), "Mend it: the worker does not start as it is.")
        return
    if not models:
        yield note(
            "There is no model in the worker's list.",
            "A model is a folder with config.json and *.safetensors.",
        )
    for name, place in models.items():
        for finding in _check(place, own):
            yield replace(finding, said=f"{name}: {finding.said}")


class _Unreadable(Exception):
    """The list cannot be read; the message says what of it."""


def _check(place: str, own: OwnServer) -> Iterator[Finding]:
    folder = own.below_home(place)
    if not folder.is_dir() and HUB_ID.fullmatch(place):
        yield fine(f"{place} comes from the hub; what was fetched is not looked at here")
        return
    yield from check_model(folder)


def _of_folder(folder: Path | None) -> dict[str, str]:
    if folder is None:
        return {}
    if not folder.is_dir():
        raise _Unreadable(f"{FOLDER}: there is no folder {folder}.")
    inside = sorted(folder.iterdir())
    return {one.name: str(one) for one in inside if _is_checkpoint(one)}


def _is_checkpoint(folder: Path) -> bool:
    return (folder / "config.json").is_file() and any(folder.glob("*.safetensors"))


def _of_file(file: Path | None) -> dict[str, str]:
    """What says more of a model of the folder names no place of its own."""
    if file is None:
        return {}
    try:
        import tomllib
    except ModuleNotFoundError:
        raise _Unreadable(f"{FILE}: a Python as old as this one cannot read {file}.") from None
    try:
        models = tomllib.loads(file.read_text(encoding="utf-8")).get("models", {})
    except (OSError, ValueError) as error:
        raise _Unreadable(f"{FILE}: {file} cannot be read: {error}.") from None
    tables = models if isinstance(models, Mapping) else {}
    return {
        name: str(told["path"])
        for name, told in tables.items()
        if isinstance(told, Mapping) and "path" in told
    }

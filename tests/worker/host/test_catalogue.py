"""The operator's list of models, and what is refused in it."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from shared.messages import Catalogue, FromWorker
from shared.settings import SettingsError, as_flags, load
from shared.wire import decode, encode
from worker.host.catalogue import Model, read_catalogue
from worker.host.hosted import HostedModel
from worker.settings import BUILT_IN_MODEL, Settings


def read(tmp_path: Path, text: str = "", **settings: object) -> dict[str, Model]:
    file = tmp_path / "models.toml"
    file.write_text(text)
    given = Settings(models=str(file), **settings)  # type: ignore[arg-type]
    return {model.name: model for model in read_catalogue(given)}


def test_a_folder_of_models_and_a_file_that_says_more_of_them(tmp_path: Path) -> None:
    folder = tmp_path / "models"
    (folder / "empty").mkdir(parents=True)
    (folder / "demo").symlink_to(BUILT_IN_MODEL)
    told = """
    [models.nowhere]
    path = "~nobody-of-that-name/model"
    [models.demo]
    aliases = ["gpt-4o"]
    pin = true
    max_concurrency = 4
    trust_remote_code = false
    [models.remote]
    path = "org/name"
    preload = true
    idle_unload = 60
    """
    models = read(tmp_path, told, models_dir=str(folder), idle_unload=5.0)
    assert list(models) == ["demo", "nowhere", "remote"]
    demo, remote = models["demo"], models["remote"]
    assert (demo.pinned, demo.idle_unload_s, demo.settings.max_concurrency) == (True, 5.0, 4)
    assert demo.settings.model == str(BUILT_IN_MODEL)
    assert demo.settings.model_names == ("demo", "gpt-4o")
    assert (remote.path, remote.preload, remote.idle_unload_s) == ("org/name", True, 60.0)
    assert remote.settings.max_concurrency == 1


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[models.a", "models.toml"),
        ("[model.a]", r"\[models.NAME\]"),
        ("[models.a]", "path"),
        ("[models.a]\npath = 1", "path"),
        ("[models.a]\npath = 'x/y'\nslots = 1", "unknown: slots"),
        ("[models.a]\npath = 'x/y'\ngateway = 'z'", "unknown: gateway"),
        ("[models.a]\npath = 'x/y'\nmax_concurrency = 'many'", "max_concurrency"),
        ("[models.a]\npath = 'x/y'\nmax_concurrency = -1", "max_concurrency"),
        ("[models.a]\npath = 'x/y'\npin = 'yes'", "pin"),
        ("[models.a]\npath = 'x/y'\nidle_unload = -1", "idle_unload"),
        ("[models.a]\npath = 'x/y'\naliases = 'b'", "aliases"),
        ("[models.a]\npath = 'x/y'\naliases = ['a']", "taken twice"),
        ("[models.a]\npath = 'x/y'\naliases = ['']", "no name"),
        ("[models]\na = 1", "table"),
        ('[models.a]\npath = "a\\u0000b"', "no path"),
        ("a = " + "[" * 5000, "models.toml"),
        ("[models.a]\npath = 'x/y'\nidle_unload = inf", "idle_unload"),
        (f"[models.a]\npath = 'x/y'\nidle_unload = {10**400}", "idle_unload"),
        ("[models.a]\npath = 'x/y'\nprefix_cache_gib = inf", "prefix_cache_gib"),
        ("[models.a]\npath = 'x/y'\nstall_timeout = inf", "stall_timeout"),
        (f"[models.a]\npath = 'x/y'\naliases = {[f'n{n}' for n in range(64)]}", "at most 63"),
        (f"[models.{'a' * 129}]\npath = 'x/y'", "no name"),
        ("\n".join(f"[models.a{n}]\npath = 'x/y'" for n in range(1025)), "at most 1024"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(SettingsError, match=words) as refused:
        read(tmp_path, text)
    assert "\n" not in str(refused.value)


def test_an_engine_is_told_its_own_model_whatever_the_environment_names(tmp_path: Path) -> None:
    models = read(tmp_path, '[models.a]\npath = "x/y"\nmax_streams = 8\nimage_position = "before"')
    engine = models["a"].settings
    around = {"WORKER_MAX_STREAMS": "2", "WORKER_MODEL_PATH": "b=y/z", "WORKER_MODELS": "no.toml"}
    assert load(Settings, "WORKER", as_flags(engine), around) == engine
    assert not engine.is_host


def test_models_named_by_flags_stand_beside_the_others(tmp_path: Path) -> None:
    folder = tmp_path / "models"
    folder.mkdir()
    (folder / "demo").symlink_to(BUILT_IN_MODEL)
    paths = (f"own={BUILT_IN_MODEL}", "org/name", "remote=org/other")
    models = read(tmp_path, "[models.own]\npin = true", models_dir=str(folder), model_path=paths)
    assert {name: model.settings.model for name, model in models.items()} == {
        "own": str(BUILT_IN_MODEL),
        "org/name": "org/name",
        "remote": "org/other",
        "demo": str(BUILT_IN_MODEL),
    }
    assert models["own"].pinned and not models["org/name"].pinned


@pytest.mark.parametrize("paths", [("x/y", "x/y"), ("a=x/y", "a=y/z")])
def test_two_models_of_one_name_are_told_apart_by_the_operator(paths: tuple[str, ...]) -> None:
    with pytest.raises(SettingsError, match="NAME=PATH"):
        read_catalogue(Settings(model_path=paths))


def test_all_that_can_be_listed_can_be_told(tmp_path: Path) -> None:
    """Four names a model, each as long as it may be; a gateway that cannot read what a host says
    knows of none of its models."""
    text = "\n".join(
        f"[models.{number:0>128}]\npath = 'x/y'\naliases = {[f'{number}{a:a>124}' for a in 'xyz']}"
        for number in range(1024)
    )
    models = [HostedModel(model, widened=True) for model in read(tmp_path, text).values()]
    said = Catalogue(worker="w", instance="i", models=[model.entry(0.0) for model in models])
    assert decode(encode(said), FromWorker)[0] == said


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="models-dir"):
        read_catalogue(Settings(models_dir=str(tmp_path / "none")))


def test_a_folder_that_is_closed_is_passed_over(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """As the system's own ones at the top of an external disk are, for whoever is not root."""
    (tmp_path / "demo").symlink_to(BUILT_IN_MODEL)
    (tmp_path / ".Spotlight-V100").mkdir()
    stat = Path.stat

    def refused(path: Path, **how: bool) -> os.stat_result:
        if path.parent.name == ".Spotlight-V100":
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return stat(path, **how)

    monkeypatch.setattr(Path, "stat", refused)
    assert [model.name for model in read_catalogue(Settings(models_dir=str(tmp_path)))] == ["demo"]
    assert ".Spotlight-V100 is passed over" in caplog.text

"""When the operator's list is read again."""

from __future__ import annotations

import os
from pathlib import Path

from worker.host.catalogue import read_catalogue
from worker.host.watch import LOOK_EVERY_S, CatalogueWatch
from worker.settings import Settings


def looks(watch: CatalogueWatch, first: int, count: int) -> list[bool]:
    return [watch.has_news(turn * LOOK_EVERY_S) for turn in range(first, first + count)]


def test_a_file_is_read_when_its_writer_has_done(tmp_path: Path) -> None:
    file = tmp_path / "models.toml"
    file.write_text("[models.a]")
    watch = CatalogueWatch(Settings(models=str(file)))
    assert looks(watch, 1, 2) == [False, False]
    file.write_text("")
    assert looks(watch, 3, 1) == [False]
    file.write_text("[models.a]\npin = true")
    assert looks(watch, 4, 3) == [False, True, False]
    file.unlink()
    assert looks(watch, 7, 3) == [False, False, False]


def test_a_model_that_is_copied_into_the_folder_is_seen_when_its_files_come(tmp_path: Path) -> None:
    (tmp_path / "new").mkdir()
    watch = CatalogueWatch(Settings(models_dir=str(tmp_path)))
    assert looks(watch, 1, 2) == [False, False]
    (tmp_path / "new" / "config.json").touch()
    os.utime(tmp_path / "new", ns=(0, 1))
    assert looks(watch, 3, 3) == [False, True, False]
    (tmp_path / "broken").symlink_to("nowhere")
    (tmp_path / "another").mkdir()
    assert looks(watch, 6, 3) == [False, True, False]


def test_a_model_whose_folder_leads_elsewhere_or_gets_other_files_is_news(tmp_path: Path) -> None:
    file, model = tmp_path / "models.toml", tmp_path / "model"
    for version in ("v1", "v2"):
        (tmp_path / version).mkdir()
        os.utime(tmp_path / version, ns=(0, 1))
    model.symlink_to("v1")
    file.write_text(f"[models.a]\npath = '{model}'\n[models.b]\npath = '{tmp_path / 'b'}'")
    settings = Settings(models=str(file))
    watch = CatalogueWatch(settings)
    watch.follow(read_catalogue(settings))
    assert looks(watch, 1, 2) == [False, False]
    model.unlink()
    assert looks(watch, 3, 2) == [False, False]
    model.symlink_to("v2")
    assert looks(watch, 5, 2) == [False, True]
    elsewhere = read_catalogue(settings)
    assert [one.settings.model for one in elsewhere] == [str(tmp_path / "v2"), str(tmp_path / "b")]
    watch.follow(elsewhere)
    os.utime(tmp_path / "v2", ns=(0, 2))
    (tmp_path / "b").mkdir()
    assert looks(watch, 7, 3) == [False, True, False]

"""One model of a catalogue, as the operator's list changes."""

from __future__ import annotations

import os
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

import psutil
import pytest

from shared.messages import CatalogueEntry
from worker.host.backoff import MAX_READY_BACKOFF_S
from worker.host.budget import Budget
from worker.host.catalogue import Model
from worker.host.hosted import HostedModel, listed_anew
from worker.settings import BUILT_IN_MODEL, GIB, Settings

LOOK_EVERY_S = 0.01

SETTINGS = Settings(model_path=(str(BUILT_IN_MODEL),), served_model_name=("demo",))
MODEL = Model("demo", str(BUILT_IN_MODEL), SETTINGS)
SCRIPTED = replace(MODEL, settings=replace(SETTINGS, engine="scripted"))


def test_what_is_to_be_loaded_beforehand_may_be_said_later() -> None:
    hosted = HostedModel(MODEL, widened=True)
    assert not hosted.place(0.0).preload
    hosted.become(replace(MODEL, preload=True))
    assert hosted.place(0.0).preload
    hosted.become(MODEL)
    assert not hosted.place(0.0).preload


def test_a_model_that_has_moved_to_the_hub_is_fetched_before_it_is_given_room() -> None:
    hosted = HostedModel(MODEL, widened=True)
    hosted.want(0.0)
    assert not hosted.waits_for_download(0.0) and hosted.place(0.0).wanted_since == 0.0
    moved = replace(SETTINGS, model_path=("someone/model",))
    hosted.become(replace(MODEL, path="someone/model", settings=moved))
    assert hosted.waits_for_download(0.0)
    assert hosted.place(0.0).wanted_since is None
    assert hosted.entry(0.0).status == "downloading" and hosted.size_bytes == 0


def test_a_folder_that_is_gone_is_looked_for_again(tmp_path: Path) -> None:
    hosted = HostedModel(replace(MODEL, path=str(tmp_path / "gone")), widened=True)
    hosted.want(0.0)
    assert hosted.waits_for_download(0.0)


@pytest.mark.parametrize("path", [str(BUILT_IN_MODEL), "someone/model"])
def test_what_no_process_can_be_had_for_is_tried_again(
    path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where a user's processes, or the machine's memory, are used up for the moment."""

    def too_few(*_: object, **__: object) -> None:
        raise BlockingIOError("too few processes")

    monkeypatch.setattr("subprocess.Popen", too_few)
    settings = replace(SETTINGS, model_path=(path,))
    hosted = HostedModel(replace(MODEL, path=path, settings=settings), widened=True)
    hosted.want(0.0)
    begin = hosted.download if hosted.waits_for_download(0.0) else partial(_start, hosted)
    open_before = os.listdir("/dev/fd")
    assert "too few processes" in (begin(0.0) or "")
    assert os.listdir("/dev/fd") == open_before
    entry = hosted.entry(0.0)
    assert (hosted.running, hosted.downloads, entry.status) == (False, False, "failed")
    hosted.want(later := entry.retry_s)
    assert hosted.waits_for_download(later) or hosted.place(later).wanted_since is not None


def _start(hosted: HostedModel, now: float) -> str | None:
    return hosted.start("name", "instance", Budget(GIB, explicit=False), now)


def test_a_model_that_drafts_takes_memory_too() -> None:
    alone = HostedModel(MODEL, widened=True).size_bytes
    drafted = replace(SETTINGS, speculate=str(BUILT_IN_MODEL))
    remembered = SETTINGS.engine_options()
    its_own = alone - remembered.prefix_cache_bytes - remembered.vision_cache_bytes
    both = HostedModel(replace(MODEL, settings=drafted), widened=True).size_bytes
    assert both == pytest.approx(alone + its_own, abs=2) and its_own > 0


def test_an_order_to_unload_ends_what_was_to_be_loaded_beforehand() -> None:
    hosted = HostedModel(replace(MODEL, preload=True, path="someone/model"), widened=True)
    assert hosted.waits_for_download(0.0)
    hosted.unload()
    assert not hosted.waits_for_download(0.0)


@pytest.mark.process
def test_what_has_failed_is_called_so_until_it_is_tried_again_or_told_otherwise() -> None:
    hosted = HostedModel(SCRIPTED, widened=True)
    failed = _killed_while_it_loads(hosted)
    assert failed.status == "failed" and "signal 9" in failed.error and failed.retry_s > 0
    hosted.want(later := time.monotonic() + failed.retry_s + 1)
    told = hosted.entry(later)
    assert (told.status, told.error, told.retry_s) == ("failed", failed.error, 0)
    assert hosted.place(later).wanted_since == later
    mended = replace(SCRIPTED, stamp=("elsewhere", 1))
    hosted.become(mended)
    told = hosted.entry(time.monotonic())
    assert (told.status, told.error, told.retry_s) == ("unloaded", "", 0)


@pytest.mark.process
def test_who_is_back_on_the_list_before_it_has_ended_is_not_here_twice() -> None:
    hosted = HostedModel(replace(SCRIPTED, preload=True), widened=True)
    hosted.idle_unload_s = 7.0
    _start(hosted, time.monotonic())
    assert not listed_anew([], [hosted], widened=True)
    back = listed_anew([hosted.model], [hosted], widened=True)
    assert back == {"demo": hosted}
    assert hosted.place(0.0).state == "leaving"
    assert hosted.place(0.0).preload and hosted.idle_unload_s == 0.0, "as if it were new"
    while hosted.running:
        assert hosted.look(time.monotonic()) is None
        time.sleep(LOOK_EVERY_S)


@pytest.mark.process
def test_an_engine_that_dies_each_time_it_is_ready_is_given_more_and_more_time() -> None:
    hosted = HostedModel(SCRIPTED, widened=True)
    try:
        at_once = [_dies_when_ready(hosted) for _ in range(2)]
        later = hosted.place(time.monotonic() + MAX_READY_BACKOFF_S)
    finally:
        hosted.stop()
    assert at_once == [True, False]
    assert later.wanted_since is not None


def _killed_while_it_loads(hosted: HostedModel) -> CatalogueEntry:
    others = psutil.Process().children()
    _start(hosted, time.monotonic())
    (process,) = set(psutil.Process().children()).difference(others)
    process.kill()
    while hosted.running:
        hosted.look(time.monotonic())
        time.sleep(LOOK_EVERY_S)
    return hosted.entry(time.monotonic())


def _dies_when_ready(hosted: HostedModel) -> bool:
    """Start it, kill it when it is ready. Returns whether it is then to be started at once."""
    others = psutil.Process().children()
    _start(hosted, time.monotonic())
    while hosted.place(time.monotonic()).state != "in":
        assert hosted.look(time.monotonic()) is None
        time.sleep(LOOK_EVERY_S)
    (process,) = set(psutil.Process().children()).difference(others)
    process.kill()
    while hosted.running:
        hosted.look(now := time.monotonic())
        time.sleep(LOOK_EVERY_S)
    return hosted.place(now).wanted_since is not None

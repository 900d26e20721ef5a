"""A host's downloads, each a process of its own, from a small hub on this machine."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.hub import Hub, serving_hub
from tests.processes import ROOT, Service, answer_text, serving
from tests.scripted import scripted, words
from tests.waiting import TIMEOUT_S, await_condition
from worker.host.download import Download
from worker.settings import Settings

DEMO = ROOT / "worker" / "demo_model"
FILES = {
    file.name: file.read_bytes()
    for file in DEMO.iterdir()
    if file.suffix in (".json", ".safetensors", ".jinja")
}
pytestmark = pytest.mark.process


@pytest.fixture
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    """The hub's cache of processes that are started; the demo model is on the hub."""
    monkeypatch.setattr(Hub, "everything", FILES)
    monkeypatch.setattr(Hub, "fetched", [])
    Hub.goes_on.clear()
    with serving_hub() as port:
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{port}")
        monkeypatch.setenv("HF_HOME", str(tmp_path))
        monkeypatch.setenv("HF_HUB_DOWNLOAD_TIMEOUT", f"{TIMEOUT_S:.0f}")
        yield tmp_path / "hub"
        Hub.goes_on.set()


def ended(download: Download) -> Download:
    await_condition(lambda: not download.look(), "the download's end")
    return download


def test_a_killed_download_fetches_again_only_what_was_not_whole(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Hub, "stopped", "model.safetensors")
    download = Download("someone/model", Settings())
    whole = len(Hub.everything) - 1
    here = cache / "models--someone--model"

    def stands_still() -> bool:
        begun = "model.safetensors" in Hub.fetched and any(here.glob("blobs/*.incomplete"))
        return begun and len(list(here.glob("snapshots/*/*"))) == whole

    await_condition(
        lambda: download.look() and stands_still() and download.fraction > 0,
        "all files but the one that stands still",
    )
    assert 0 < download.fraction < 1
    download.stop()
    (half,) = here.glob("blobs/*.incomplete")
    os.utime(half, (0, time.time() - 4000))
    Hub.fetched.clear()
    Hub.goes_on.set()
    again = ended(Download("someone/model", Settings()))
    assert Hub.fetched == ["model.safetensors"]
    assert again.fraction == 1.0 and again.folder is not None
    there = {file.name: file.read_bytes() for file in again.folder.iterdir()}
    assert there == FILES
    assert not half.exists()


def test_offline_only_what_is_here_is_found(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    refused = ended(Download("someone/model", Settings()))
    assert refused.folder is None and "not on this machine" in refused.error
    assert Hub.fetched == []
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    folder = ended(Download("someone/model", Settings())).folder
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert folder is not None and ended(Download("someone/model", Settings())).folder == folder


def status(service: Service, model: str) -> dict[str, object]:
    told: dict[str, object] = service.get(f"/v1/models/{model}")["status"]
    return told


def test_models_are_fetched_one_at_a_time_and_asked_when_they_are_here(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Hub, "stopped", "model.safetensors")
    flags = ("--engine", "scripted", "--model-path=first=someone/model", "--model-path=x=someone/x")
    with serving(workers=0) as service:
        worker = service.add_worker(*flags)
        await_condition(lambda: len(service.get("/v1/models")["data"]) == 2, "the catalogue")
        service.ask({"model": "first"}, "/v1/models/load")
        await_condition(lambda: (status(service, "first")["fraction"] or 0) != 0, "its beginning")
        assert status(service, "first")["value"] == "downloading"
        service.ask({"model": "x"}, "/v1/models/load")
        await_condition(lambda: status(service, "x")["value"] == "downloading", "its turn")
        assert "model x is fetched" not in worker.output()
        Hub.goes_on.set()
        assert answer_text(service.ask({"model": "first", **scripted()})) == words(8)
        refused = service.ask({"model": "x", **scripted()})
        assert refused.status_code == 503 and "The hub has no model someone/x" in refused.text


def test_a_worker_of_one_model_is_a_host_of_one(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Hub, "stopped", "model.safetensors")
    with serving(workers=0) as service:
        service.worker_flags = ("--engine", "scripted")
        service.add_worker("--model-path=first=someone/model")
        hopeless = service.add_worker("--model-path=someone/x")
        assert hopeless.process.wait(TIMEOUT_S) == 2
        assert "The hub has no model someone/x" in hopeless.output()
        assert hopeless.output().count("is fetched from the hub") == 1
        hopeless.stop()
        service.workers.remove(hopeless)
        await_condition(lambda: first(service)["status"]["fraction"] != 0, "its beginning")
        assert first(service)["status"]["value"] == "downloading"
        assert first(service)["download"]["total_bytes"] == sum(map(len, FILES.values()))
        refused = service.ask({"model": "first", **scripted()})
        assert refused.status_code == 503 and refused.json()["error"]["code"] == "loading"
        ready = service.client.get(f"{service.url}/ready")
        assert ready.status_code == 503 and "is downloading (" in ready.text
        Hub.goes_on.set()
        service.await_ready(1)
        assert first(service)["status"]["value"] == "loaded" and first(service)["pinned"]
        assert answer_text(service.ask({"model": "first", **scripted()})) == words(8)


def first(service: Service) -> dict[str, Any]:
    nothing = {"status": {"value": "", "fraction": 0}}
    entry: dict[str, Any] = next(iter(service.get("/v1/models")["data"]), nothing)
    return entry

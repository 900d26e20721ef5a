"""A model that is not here yet: a small hub on this machine, and none at all."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

import msgspec
import pytest
from huggingface_hub import constants

from tests.waiting import free_port
from worker.engine.interface import ModelError, ModelUnavailable
from worker.engine.model.download import resolve_folder

REVISION = "0123456789abcdef0123456789abcdef01234567"
FILES = {"config.json": b"{}", "model.safetensors": b"x" * 300_000, "b.safetensors": b"y" * 700_000}
UNWANTED = {"model.gguf": b"z" * 900_000}
CODE = {"modeling.py": b"print('it runs')"}


class Hub(BaseHTTPRequestHandler):
    """As much of the hub's API as a download needs."""

    everything: ClassVar[dict[str, bytes]] = FILES | UNWANTED | CODE
    withheld: ClassVar[str] = ""

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def log_message(self, format: str, *args: object) -> None:
        pass

    def _answer(self, *, body: bool) -> None:
        name = self.path.rpartition("/")[2]
        content = self.everything.get(name)
        if not self.path.removeprefix("/api/models").startswith("/someone/model"):
            self.send_response(404)
            self.send_header("X-Error-Code", "RepoNotFound")
            content = b""
        elif name == self.withheld:
            self.send_response(403)
            content = b""
        elif "/resolve/" in self.path and content is not None:
            self.send_response(200)
            self.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
            self.send_header("X-Repo-Commit", REVISION)
        else:
            listing: object = {"id": "someone/model", "sha": REVISION, "siblings": []}
            if "/tree/" in self.path:
                listing = [
                    {"type": "file", "path": path, "size": len(data), "oid": path}
                    for path, data in self.everything.items()
                ]
            content = msgspec.json.encode(listing)
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if body:
            self.wfile.write(content)


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    point_at(monkeypatch, tmp_path, server.server_address[1])
    yield
    server.shutdown()
    server.server_close()


def point_at(monkeypatch: pytest.MonkeyPatch, cache: Path, port: int) -> None:
    url = f"http://127.0.0.1:{port}"
    monkeypatch.setattr(constants, "ENDPOINT", url)
    monkeypatch.setattr(
        constants, "HUGGINGFACE_CO_URL_TEMPLATE", url + "/{repo_id}/resolve/{revision}/{filename}"
    )
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))


@pytest.mark.usefixtures("hub")
def test_a_download_tells_how_far_it_is_and_never_goes_back() -> None:
    told: list[float] = []
    folder = resolve_folder("someone/model", told.append)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == FILES
    assert told == sorted(told)
    assert told[-1] == 1.0
    told.clear()
    assert resolve_folder("someone/model", told.append) == folder
    assert told == []


@pytest.mark.usefixtures("hub")
def test_a_models_python_is_fetched_only_where_it_is_trusted() -> None:
    folder = resolve_folder("someone/model", lambda part: None)
    assert not list(folder.glob("*.py"))
    folder = resolve_folder("someone/model", lambda part: None, trust_remote_code=True)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == FILES | CODE


@pytest.mark.usefixtures("hub")
def test_a_model_that_the_hub_does_not_have_is_hopeless() -> None:
    with pytest.raises(ModelError, match="The hub has no model"):
        resolve_folder("someone/else", lambda part: None)


def test_a_hub_that_is_away_is_hopeless_and_one_sentence(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    point_at(monkeypatch, tmp_path, free_port())
    with pytest.raises(ModelError, match=r"someone/model .* hub cannot be reached") as caught:
        resolve_folder("someone/model", lambda part: None)
    assert "\n" not in str(caught.value)


@pytest.mark.usefixtures("hub")
def test_what_was_fetched_needs_no_hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    folder = resolve_folder("someone/model", lambda part: None)
    point_at(monkeypatch, tmp_path, free_port())
    assert resolve_folder("someone/model", lambda part: None) == folder


@pytest.mark.usefixtures("hub")
def test_a_download_that_breaks_off_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Hub, "withheld", "model.safetensors")
    with pytest.raises(ModelUnavailable, match="someone/model cannot be downloaded now") as caught:
        resolve_folder("someone/model", lambda part: None)
    assert "\n" not in str(caught.value)

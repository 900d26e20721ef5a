"""A small hub of models on this machine: as much of the hub's API as a download needs."""

from __future__ import annotations

import contextlib
import hashlib
import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

import msgspec
import pytest
from huggingface_hub import constants

from tests.waiting import TIMEOUT_S

REVISION = "0123456789abcdef0123456789abcdef01234567"


class Hub(BaseHTTPRequestHandler):
    """Answers for one model; what it holds is set by each test."""

    everything: ClassVar[dict[str, bytes]] = {}
    """Files of the one model that there is, `someone/model`."""
    withheld: ClassVar[str] = ""
    stopped: ClassVar[str] = ""
    """The file of which only the first half comes, until `goes_on` is set."""
    goes_on: ClassVar[threading.Event] = threading.Event()
    sent_bytes: ClassVar[int] = 0
    """Of all files together."""
    fetched: ClassVar[list[str]] = []
    """Names of the files whose content was asked for, once for each time."""

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
            etag = hashlib.sha256(content).hexdigest()
            asked = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
            self.send_response(206 if asked else 200)
            if asked:
                whole, first, last = len(content), int(asked[1]), int(asked[2] or len(content) - 1)
                content = content[first : last + 1]
                self.send_header("Content-Range", f"bytes {first}-{last}/{whole}")
            self.send_header("ETag", f'"{etag}"')
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
            self._write(name, content)

    def _write(self, name: str, content: bytes) -> None:
        if "/resolve/" in self.path:
            self.fetched.append(name)
            Hub.sent_bytes += len(content)
        half = len(content) // 2
        with contextlib.suppress(OSError):  # who asked is gone
            self.wfile.write(content[:half])
            if name == self.stopped:
                self.goes_on.wait(TIMEOUT_S)
            self.wfile.write(content[half:])


@contextlib.contextmanager
def serving_hub() -> Iterator[int]:
    """Yields its port."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        server.server_close()


def point_at(monkeypatch: pytest.MonkeyPatch, cache: Path, port: int) -> None:
    """Let the hub's library in this process look there."""
    url = f"http://127.0.0.1:{port}"
    monkeypatch.setattr(constants, "ENDPOINT", url)
    monkeypatch.setattr(
        constants, "HUGGINGFACE_CO_URL_TEMPLATE", url + "/{repo_id}/resolve/{revision}/{filename}"
    )
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))

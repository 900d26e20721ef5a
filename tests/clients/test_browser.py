"""`openai` and `@anthropic-ai/sdk` in a page of another origin, in a real Chromium."""

from __future__ import annotations

import functools
import shutil
import subprocess
import threading
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.clients.asking import CAPITAL_ANSWER, COUNT_ANSWER, MODEL, PICTURE_URL
from tests.clients.conftest import DEMO
from tests.clients.installed import npm_packages
from tests.page.browser import chromium
from tests.processes import serving

ASK = "const done = arguments[3]; ask(arguments[0], arguments[1], arguments[2]).then(done, done)"
HERE = Path(__file__).parent


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def page(tmp_path: Path) -> Iterator[str]:
    """An app as its authors ship it: the packages and their own code in one file."""
    packages = npm_packages()
    app = shutil.copy(HERE / "in_browser.mjs", packages)
    esbuild = packages / "node_modules/.bin/esbuild"
    # What is Node's own the SDK imports only where there is Node.
    flags = ("--bundle", "--format=esm", "--external:node:*", f"--outfile={tmp_path}/app.js")
    bundled = subprocess.run(
        [esbuild, app, *flags],
        cwd=packages,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert bundled.returncode == 0, bundled.stderr
    (tmp_path / "index.html").write_text("<!doctype html><script type=module src=app.js></script>")
    handler = functools.partial(Quiet, directory=str(tmp_path))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_an_allowed_page_can_use_both_sdks(page: str) -> None:
    allowing = ("--cors-origin", page)
    with serving(gateway_flags=allowing, worker_flags=DEMO) as service, chromium() as browser:
        browser.set_script_timeout(60)
        browser.get(page)
        answers = browser.execute_async_script(ASK, service.url, MODEL, PICTURE_URL)
    assert answers == {
        "openai": {
            "seen": COUNT_ANSWER,
            "streamed": CAPITAL_ANSWER,
            "refused": "temperature",
            "named": True,
        },
        "anthropic": {"seen": COUNT_ANSWER, "streamed": CAPITAL_ANSWER},
    }

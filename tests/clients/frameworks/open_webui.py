"""Open WebUI as it installs, in a real Chromium: `scripts/clients open-webui`.

From PyPI into an environment of its own (gigabytes, minutes), told where the server is and nothing
else: a first message, streamed, brings all of its built-in tools (17,000 tokens of the demo model);
its calls for a title, tags and follow-ups come after the answer. Then a picture is attached.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import tempfile
from collections.abc import Iterator
from typing import Any

import httpx

from tests.clients.asking import CAPITAL, COUNT, PICTURE_PATH
from tests.page.browser import chromium
from tests.waiting import await_condition, free_port

NAME = "open-webui"
PACKAGES = ("open-webui==0.12.4",)
TIMEOUT_S = 900
"""For its start, and for each answer: the machine may have other things to do."""

STORED = """
const done = arguments[0];
const get = (path) => fetch(path, { headers: { authorization: `Bearer ${localStorage.token}` } })
  .then((answer) => answer.json());
const newest = async ([chat]) => (chat ? await get(`/api/v1/chats/${chat.id}`) : null);
get("/api/v1/chats/?page=1").then(newest).then(done, () => done(null));
"""
"""Returns the newest conversation as it is stored."""

DISMISS = """
for (const button of document.querySelectorAll("button"))
  if (/Okay|Let's Go/.test(button.innerText)) button.click();
"""


@contextlib.contextmanager
def running(python: str, base_url: str) -> Iterator[str]:
    """Start it, new and without accounts; returns its address."""
    url = f"http://127.0.0.1:{(port := free_port())}"
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        environment = {
            **os.environ,
            "DATA_DIR": folder,
            "WEBUI_SECRET_KEY": "any",
            "WEBUI_AUTH": "False",
            "OPENAI_API_BASE_URL": base_url,
            "OPENAI_API_KEY": "any",
            "HF_HUB_OFFLINE": "1",
        }
        with open(f"{folder}/log", "wb") as log:
            program = f"{os.path.dirname(python)}/open-webui"
            process = subprocess.Popen(
                [program, "serve", "--host", "127.0.0.1", "--port", str(port)],
                env=environment,
                cwd=folder,
                stdout=log,
                stderr=log,
            )
        try:
            await_condition(lambda: _answers(url), "Open WebUI listens", TIMEOUT_S)
            yield url
        finally:
            process.terminate()
            process.wait(30)


def _answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/health").is_success
    except httpx.TransportError:
        return False


def outcomes(python: str, base_url: str) -> dict[str, Any]:
    """Return what came of each trial. Raises AssertionError for an answer that did not come."""
    with running(python, base_url) as url, chromium() as browser:
        browser.set_script_timeout(30)
        _open(browser, url)
        _ask(browser, CAPITAL)
        text = _answer(browser)
        await_condition(
            lambda: _last(browser).get("followUps") is not None, "its other calls", TIMEOUT_S
        )
        chat = _stored(browser)
        _open(browser, url)
        (chooser, *_) = browser.find_elements("css selector", "input[type=file]")
        chooser.send_keys(str(PICTURE_PATH))
        await_condition(lambda: _attached(browser), "the picture", 60)
        _ask(browser, COUNT)
        await_condition(lambda: _stored(browser)["id"] != chat["id"], "another conversation", 60)
        return {
            "text": text,
            "title": chat["title"],
            "follow_ups": _messages(chat)[-1].get("followUps"),
            "picture": _answer(browser),
        }


def _open(browser: Any, url: str) -> None:
    """Begin a conversation."""
    browser.get(url)
    await_condition(lambda: _inputs(browser), "a place to write", TIMEOUT_S)
    browser.execute_script(DISMISS)


def _inputs(browser: Any) -> list[Any]:
    found: list[Any] = browser.find_elements("css selector", "#chat-input")
    return found


def _ask(browser: Any, question: str) -> None:
    (box,) = _inputs(browser)
    box.click()
    box.send_keys(question + "\n")


def _attached(browser: Any) -> bool:
    return bool(browser.find_elements("css selector", "form img"))


def _stored(browser: Any) -> Any:
    return browser.execute_async_script(STORED)


def _messages(chat: Any) -> list[Any]:
    """Those of the model, the oldest first."""
    messages = chat["chat"]["history"]["messages"].values() if chat else ()
    return [message for message in messages if message["role"] == "assistant"]


def _last(browser: Any) -> Any:
    messages = _messages(_stored(browser))
    return messages[-1] if messages else {}


def _answer(browser: Any) -> str:
    """Wait for the end of the model's last answer, and return it."""
    await_condition(lambda: _last(browser).get("done"), "the answer", TIMEOUT_S)
    message = _last(browser)
    assert "error" not in message, message["error"]
    content: str = message["content"]
    return content

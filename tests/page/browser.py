"""A real Chromium for tests, and the page as its user meets it."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.waiting import await_condition

webdriver = pytest.importorskip("selenium.webdriver", reason="selenium drives the browser")

FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
)
NAMES = ("chromium", "chromium-browser", "google-chrome")
MAC_CHROME = Path("/Applications/Google Chrome.app/Contents/MacOS/Google Chrome")

DROP = """
const bytes = Uint8Array.from(atob(arguments[0]), (c) => c.charCodeAt(0));
const carried = new DataTransfer();
carried.items.add(new File([bytes], arguments[1], { type: arguments[2] }));
document.getElementById("chat").dispatchEvent(
  new DragEvent("drop", { dataTransfer: carried, bubbles: true, cancelable: true }));
"""


def find_chromium() -> str | None:
    for name in NAMES:
        if path := shutil.which(name):
            return path
    return str(MAC_CHROME) if MAC_CHROME.exists() else None


@contextlib.contextmanager
def chromium(*, dark: bool = False, size: tuple[int, int] = (1280, 900)) -> Iterator[Any]:
    """A fresh browser; skips the test where there is none."""
    binary, driver = find_chromium(), shutil.which("chromedriver")
    if binary is None or driver is None:
        pytest.skip("needs Chromium and chromedriver (Debian: apt-get install chromium-driver)")
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        options = webdriver.ChromeOptions()
        options.binary_location = binary
        flags = (*FLAGS, f"--user-data-dir={profile}", f"--window-size={size[0]},{size[1]}")
        for flag in flags:
            options.add_argument(flag)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
        browser = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
        try:
            scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
            browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})
            set_size(browser, *size)
            yield browser
        finally:
            browser.quit()


def set_size(browser: Any, width: int, height: int) -> None:
    metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)


class Page:
    """What a user does with the page and sees on it."""

    def __init__(self, browser: Any, url: str, *, afresh: bool = False) -> None:
        """
        Args:
            afresh: as somebody meets it who was never here.
        """
        self.browser = browser
        if afresh:
            # At an address of this origin that runs nothing, which could keep something meanwhile.
            browser.get(url + "/health")
            browser.execute_script("localStorage.clear(); sessionStorage.clear()")
        # What the page before had to say about its server's end is not this page's.
        browser.get("about:blank")
        browser.get_log("browser")
        browser.get(url + "/")

    def find(self, css: str) -> Any:
        return self.browser.find_element("css selector", css)

    def text(self, css: str) -> str:
        """The visible text of the last such element; empty when there is none."""
        script = "return [...document.querySelectorAll(arguments[0])].at(-1)?.innerText ?? ''"
        return str(self.browser.execute_script(script, css))

    def texts(self, css: str) -> list[str]:
        """The visible text of every such element, without the blanks around it."""
        script = "return [...document.querySelectorAll(arguments[0])].map((one) => one.innerText)"
        return [str(text).strip() for text in self.browser.execute_script(script, css)]

    def await_text(self, css: str, part: str) -> str:
        await_condition(lambda: part in self.text(css), f"{part!r} in {css}", 30)
        return self.text(css)

    def await_ready(self) -> None:
        self.await_text("#state", "ready")

    def drop(self, encoded: str, name: str = "scene.png", media_type: str = "image/png") -> None:
        """Drop a picture, given in base64, on the chat."""
        before = len(self.browser.find_elements("css selector", "#pictures li"))
        self.browser.execute_script(DROP, encoded, name, media_type)
        await_condition(
            lambda: len(self.browser.find_elements("css selector", "#pictures li")) > before,
            "the dropped picture shown",
        )

    def ask(self, question: str) -> None:
        self.find("#question").send_keys(question + "\n")

    def resize(self, width: int, height: int) -> None:
        set_size(self.browser, width, height)

    def escape(self) -> None:
        self.browser.switch_to.active_element.send_keys("\ue00c")

    def turns(self) -> int:
        return len(self.browser.find_elements("css selector", ".turn"))

    def await_answer(self) -> str:
        """Wait until nothing is being answered, and return the last answer."""
        await_condition(lambda: self.find("#send").is_displayed(), "the answer's end", 30)
        return self.text(".turn.assistant .text")

    def console_problems(self) -> list[str]:
        lines = self.browser.get_log("browser")
        return [line["message"] for line in lines if line["level"] in ("SEVERE", "WARNING")]

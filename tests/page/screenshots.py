"""Draws the README's screenshots: `python -m tests.page.screenshots`."""

from __future__ import annotations

import base64
import io
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

from PIL import Image

from scripts.demo_model import answers
from scripts.demo_model.scenes import example_scene
from tests.page.browser import Page, chromium
from tests.processes import ROOT, Service, serving
from tests.waiting import await_condition

FOLDER = ROOT / "docs" / "screenshots"
EXAMPLE = base64.b64encode((ROOT / "docs" / "example.png").read_bytes()).decode()
COLOURS = 128
STRETCH_S = 7.0
QUESTIONS = [
    ("What is in this image?", answers.caption(example_scene())),
    ("How many shapes are there?", answers.count(2)),
]
VIEWS = {
    "light": (False, (1280, 900)),
    "dark": (True, (1280, 900)),
    "narrow": (False, (360, 780)),
}


def main() -> None:
    FOLDER.mkdir(parents=True, exist_ok=True)
    with serving(worker_flags=("--max-concurrency", "8")) as service:
        work_for_the_plots(service)
        for name, (dark, size) in VIEWS.items():
            with chromium(dark=dark, size=size) as browser:
                draw(browser, service, FOLDER / f"{name}.png")


def work_for_the_plots(service: Service) -> None:
    """Let the plots have something to show."""
    question = {"role": "user", "content": "Count from 1 to 50."}
    for together in (1, 4, 12, 24, 8, 2):
        until = time.monotonic() + STRETCH_S

        def ask(_: int, until: float = until) -> None:
            while time.monotonic() < until:
                service.ask({"messages": [question]})

        with ThreadPoolExecutor(together) as pool:
            list(pool.map(ask, range(together)))


def _turn_is_shown(page: Page, turn: int) -> bool:
    return page.turns() == 2 * turn


def draw(browser: Any, service: Service, file: Path) -> None:
    page = Page(browser, service.url)
    page.await_ready()
    for turn, (question, right) in enumerate(QUESTIONS, 1):
        if turn == 1:
            page.drop(EXAMPLE)
        page.ask(question)
        await_condition(partial(_turn_is_shown, page, turn), "the turn shown")
        answer = page.await_answer()
        if answer != right:
            raise SystemExit(f"no screenshot of a wrong answer: {question} {answer}")
    total = service.get("/v1/queue/stats")["metrics"]["total_requests"]
    page.await_text("#figure-total", str(total))
    browser.execute_script("scrollTo(0, 0); document.activeElement.blur()")
    picture = Image.open(io.BytesIO(browser.get_screenshot_as_png())).convert("RGB")
    picture.quantize(COLOURS, dither=Image.Dither.NONE).save(file, optimize=True)


if __name__ == "__main__":
    main()

"""The page in a real browser, before a real gateway and workers."""

from __future__ import annotations

import ast
import base64
import contextlib
import os
import signal
from collections.abc import Iterator
from typing import Any

import pytest

from tests.page.browser import Page
from tests.processes import ROOT, Service, serving
from tests.scripted import words
from tests.waiting import await_condition

EXAMPLE = base64.b64encode((ROOT / "docs" / "example.png").read_bytes()).decode()
KEY = "a-key-for-tests"


@pytest.fixture
def page(browser: Any, service: Service) -> Iterator[Page]:
    opened = Page(browser, service.url)
    opened.await_ready()
    yield opened
    assert opened.console_problems() == []


def test_it_shows_the_workers_and_what_was_asked(page: Page, service: Service) -> None:
    assert service.script(tokens=5).status_code == 200
    page.await_text("#recent", "finished")
    worker = service.worker_states()[0]
    assert worker["model"] in page.text("#workers")
    line = page.find("#workers").value_of_css_property("border-top-width")
    assert line == "0px", "a line above the first of the card"
    assert page.text("#only-model") == worker["model"]
    assert not page.find("#model").is_displayed(), "where there is one model nothing is to choose"
    assert page.find("#rate-plot canvas").size["width"] > 100


LEFT_COLUMN = """
return [...document.querySelectorAll("#status canvas")].map((canvas) => {
  const column = canvas.getContext("2d").getImageData(0, 0, 1, canvas.height).data;
  return column.some((byte) => byte > 0);
})"""


def test_figures_are_whole_and_explained_on_a_phone(page: Page, service: Service) -> None:
    assert service.script(stream=True, tokens=40, delay_s=0.005).status_code == 200
    await_condition(lambda: page.texts("#recent .number")[:1] == ["40"], "the request in the list")
    page.resize(360, 740)
    page.await_text("#rate-plot .times", "ago")
    assert page.text("#load-plot .times").splitlines()[-1] == "now"
    assert page.browser.execute_script(LEFT_COLUMN) == [False, False], "an axis' labels are cut off"
    assert page.browser.execute_script("return document.documentElement.scrollWidth") <= 360
    slots = sum(worker["slots"] + worker["stream_slots"] for worker in service.worker_states())
    assert page.text("#slots") == f"of {slots}"
    told = page.find("#recent .phases").get_attribute("aria-label")
    assert [part.split()[0] for part in told.split(", ")][-2:] == ["prefill", "decode"]
    widths = page.browser.execute_script(
        "return [...document.querySelectorAll('.phases')[0].children].map((one) => one.offsetWidth)"
    )
    assert max(widths) == widths[-1] > 40, "most of its time was decoding"
    page.resize(1280, 900)


def test_an_answer_is_streamed_and_the_next_turn_knows_it(page: Page) -> None:
    page.ask('script: {"tokens": 12}')
    assert page.await_answer().strip() == words(12).strip()
    page.ask('script: {"tokens": 3}')
    await_condition(lambda: page.turns() == 4, "a second turn")
    assert page.await_answer().strip() == words(3).strip()


def test_stop_keeps_what_came_and_frees_the_slot(page: Page, service: Service) -> None:
    page.ask('script: {"tokens": 5000, "delay_s": 0.02}')
    page.await_text(".turn.assistant .text", "w3")
    page.find("#stop").click()
    page.await_text(".turn.assistant .note", "stopped")
    await_condition(
        lambda: service.get("/v1/queue/stats")["queue_stats"]["active_requests"] == 0,
        "the job cancelled",
    )
    page.await_text("#recent tr:first-child", "stopped")


def test_a_refused_question_goes_back_to_be_mended(page: Page) -> None:
    page.find("[popovertarget=settings]").click()
    page.find("#temperature").send_keys("9")
    page.escape()
    page.ask("Too warm?")
    page.await_text("#notice", "temperature")
    assert page.find("#question").get_property("value") == "Too warm?"
    page.browser.execute_script("localStorage.clear(); sessionStorage.clear()")
    # The browser itself notes every status of 400 and above.
    page.browser.get_log("browser")


@pytest.mark.parametrize("kept", ["{broken", "7", '{"seed": {}, "system": ["x"], "top-p": null}'])
def test_settings_that_cannot_be_read_are_the_defaults(page: Page, kept: str) -> None:
    keep = "localStorage.setItem('settings', arguments[0])"
    page.browser.execute_script(keep, kept)
    page.browser.refresh()
    page.await_ready()
    page.ask('script: {"tokens": 3}')
    assert page.await_answer().strip() == words(3).strip()
    page.browser.execute_script("localStorage.clear()")


NOTHING_IS_KEPT = """
for (const name of ["localStorage", "sessionStorage"]) {
  Object.defineProperty(window, name, { get: () => { throw new DOMException("denied") } });
}
"""


def test_a_browser_that_keeps_nothing_has_the_page_all_the_same(page: Page) -> None:
    deny = {"source": NOTHING_IS_KEPT}
    added = page.browser.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", deny)
    page.browser.refresh()
    page.browser.execute_cdp_cmd("Page.removeScriptToEvaluateOnNewDocument", added)
    page.await_ready()
    page.find("[popovertarget=settings]").click()
    page.find("#system").send_keys("Be brief.")
    page.escape()
    page.ask('script: {"tokens": 3}')
    assert page.await_answer().strip() == words(3).strip()
    page.browser.refresh()
    page.await_ready()


@pytest.mark.parametrize(
    ("field", "typed"),
    [("seed", "12345678901234567890"), ("schema", '{"const": 9007199254740993}')],
)
def test_a_number_that_the_browser_would_change_is_not_sent(
    page: Page, field: str, typed: str
) -> None:
    page.find("[popovertarget=settings]").click()
    page.find(f"#{field}").send_keys(typed)
    page.escape()
    page.ask("Exactly?")
    page.await_text("#notice", f"{'Seed' if field == 'seed' else 'The schema'} in the settings")
    assert page.find("#question").get_property("value") == "Exactly?"
    page.browser.execute_script("localStorage.clear(); sessionStorage.clear()")


def test_a_bad_picture_is_named_as_its_owner_knows_it(page: Page) -> None:
    page.find("#clear").click()
    page.drop(EXAMPLE)
    page.drop(base64.b64encode(b"no picture").decode(), "holiday.png")
    page.ask("What is this?")
    page.await_text("#notice", "holiday.png: this is no PNG")
    assert "messages[" not in page.text("#notice")
    page.find("#clear").click()
    for _ in range(2):
        page.find("#pictures button").click()
    page.find("#question").clear()
    page.browser.get_log("browser")  # it notes the status


def test_what_a_model_writes_is_never_markup(page: Page) -> None:
    page.ask("<img src=x onerror=document.title='broken'>")
    page.await_answer()
    assert "<img" in page.text(".turn.user .text")
    assert page.browser.title == "proxy-OAI-compat"


def test_the_conversation_can_be_copied_as_code(page: Page) -> None:
    page.browser.execute_script(
        "navigator.clipboard.writeText = async (text) => { window.copied = text }"
    )
    page.drop(EXAMPLE)
    page.find("[popovertarget=settings]").click()
    page.find("#schema").send_keys('{"type": "object", "additionalProperties": false}')
    page.escape()
    page.find("#question").send_keys("What's this?")
    page.browser.execute_script("document.getElementById('copy-python').click()")
    page.await_text("#chat", "Send")
    program = await_condition(
        lambda: page.browser.execute_script("return window.copied"), "something copied"
    )
    names = {node.id for node in ast.walk(ast.parse(program)) if isinstance(node, ast.Name)}
    assert not names & {"true", "false", "null"}, "JSON's words are no Python"
    page.browser.execute_script("localStorage.clear(); sessionStorage.clear()")
    assert "What's this?" in program and EXAMPLE[:40] in program


def test_a_killed_worker_shows_up_and_a_stopped_gateway(browser: Any) -> None:
    """Its supervisor dies with it: an engine alone is back before a page could show it."""
    with serving() as service:
        page = Page(browser, service.url)
        page.await_ready()
        os.killpg(service.workers[0].process.pid, signal.SIGKILL)
        page.await_text("#workers .state", "restarting")
        service.gateway.stop()
        page.await_text("#state", "not connected")
        assert "broke off" in page.text("#rate-plot .times")


@contextlib.contextmanager
def serving_with_key() -> Iterator[Service]:
    with serving(workers=0, gateway_flags=("--api-key", KEY)) as service:
        service.client.headers["Authorization"] = f"Bearer {KEY}"
        service.add_worker()
        service.await_ready(1)
        yield service


def test_the_key_is_asked_for(browser: Any) -> None:
    with serving_with_key() as service:
        page = Page(browser, service.url)
        await_condition(lambda: page.find("#key").is_displayed(), "the question for the key")
        page.find("#key").send_keys("wrong\n")
        page.await_text("#key-problem", "did not accept")
        page.find("#key").send_keys(KEY + "\n")
        page.await_ready()
        page.find("nav [href=docs]").click()
        page.await_text("#docs-dialog", "POST /v1/chat/completions")
        page.escape()
        page.ask('script: {"tokens": 4}')
        assert page.await_answer().strip() == words(4).strip()
        page.browser.execute_script("sessionStorage.clear()")
        page.browser.get_log("browser")

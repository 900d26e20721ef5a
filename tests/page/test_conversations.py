"""Conversations stay in the browser; turns can be edited, asked again, and branch."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from selenium.webdriver.support import expected_conditions
from selenium.webdriver.support.wait import WebDriverWait

from tests.page.browser import Page
from tests.page.test_page import EXAMPLE
from tests.processes import Service, serving
from tests.scripted import scripted
from tests.waiting import await_condition

WAIT_S = 30
PRESS = """
const [css, words] = arguments;
const buttons = [...document.querySelectorAll(css + " button")];
const one = buttons.find((one) => [one.innerText, one.ariaLabel].includes(words));
if (one) setTimeout(() => one.click()); // what it opens may block
return one !== undefined;
"""


@pytest.fixture(scope="module")
def service() -> Iterator[Service]:
    # One stream at a time, so that the second has to wait.
    with serving(worker_flags=("--engine", "scripted", "--max-streams", "1")) as running:
        yield running


def script(text: str, **more: object) -> str:
    return "script: " + json.dumps({"text": text, **more})


def asked(page: Page, text: str, **more: object) -> None:
    before = page.turns()
    page.ask(script(text, **more))
    await_condition(lambda: page.turns() == before + 2, "the turns", WAIT_S)
    page.await_text(".turn.assistant:last-child .note", "in all")


def answers(page: Page) -> list[str]:
    return page.texts(".turn.assistant .markdown")


def press(page: Page, css: str, words: str) -> None:
    """Press the button with these words, or this label, as soon as it is there."""

    def pressed() -> bool:
        return bool(page.browser.execute_script(PRESS, css, words))

    await_condition(pressed, f"{words!r} in {css}", WAIT_S)


def listed(page: Page) -> list[str]:
    return page.texts("#conversations .title")


def open_list(page: Page, words: str = "") -> None:
    page.find("[popovertarget=history]").click()
    page.find("#search").clear()
    page.find("#search").send_keys(words)


def delete(page: Page, title: str) -> None:
    press(page, "#conversations li:first-child", f"Delete {title}")
    WebDriverWait(page.browser, WAIT_S).until(expected_conditions.alert_is_present()).accept()


def test_a_reload_brings_everything_back(page: Page) -> None:
    page.drop(EXAMPLE)
    asked(page, "a picture of shapes")
    asked(page, "two of them")
    page.browser.refresh()
    await_condition(lambda: page.turns() == 4, "the turns again", WAIT_S)
    assert answers(page) == ["a picture of shapes", "two of them"]
    assert page.find(".turn.user img").get_property("naturalWidth") > 0


def test_a_reload_in_the_middle_keeps_what_came(page: Page) -> None:
    page.ask(script("word " * 400, delay_s=0.05))
    await_condition(lambda: "word word word" in "".join(answers(page)), "some words", WAIT_S)
    page.browser.refresh()
    page.await_text(".turn.assistant .note", "was left during this answer")
    assert answers(page)[0].startswith("word")
    page.await_ready()


HOLD_THE_STORE = """
Object.defineProperty(IDBOpenDBRequest.prototype, "onsuccess", {
  set(handler) {
    this.addEventListener("success", (event) => (window.release = () => handler(event)));
  },
});
"""


def test_a_chat_that_is_begun_before_the_store_is_open_stays(page: Page) -> None:
    asked(page, "kept")
    hold = {"source": HOLD_THE_STORE}
    added = page.browser.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", hold)
    page.browser.refresh()
    page.browser.execute_cdp_cmd("Page.removeScriptToEvaluateOnNewDocument", added)
    await_condition(lambda: page.browser.execute_script("return !!window.release"), "it held")
    page.find("#clear").click()
    page.browser.execute_script("window.release()")
    open_list(page)
    await_condition(lambda: listed(page), "the list", WAIT_S)
    assert page.turns() == 0
    page.escape()


def test_the_list_searches_renames_and_deletes(page: Page) -> None:
    asked(page, "the secret is pomegranate")
    page.find("#clear").click()
    asked(page, "nothing of the kind")
    open_list(page, "pomegranate")
    await_condition(lambda: len(listed(page)) == 1, "one found", WAIT_S)
    press(page, "#conversations li:first-child", f"Rename {listed(page)[0]}")
    page.browser.switch_to.active_element.send_keys("Fruit\n")
    await_condition(lambda: listed(page) == ["Fruit"], "the new name", WAIT_S)
    press(page, "#conversations", "Fruit")
    await_condition(lambda: answers(page) == ["the secret is pomegranate"], "it opened", WAIT_S)
    asked(page, "more")
    open_list(page, "pomegranate")
    await_condition(lambda: listed(page) == ["Fruit"], "its name kept", WAIT_S)
    delete(page, "Fruit")
    await_condition(lambda: listed(page) == [], "it gone", WAIT_S)
    assert page.turns() == 0
    page.escape()


def test_a_conversation_deleted_while_it_is_answered_stays_deleted(page: Page) -> None:
    page.ask(script("quince " * 400, delay_s=0.05))
    await_condition(lambda: "quince quince" in "".join(answers(page)), "some words", WAIT_S)
    open_list(page, "quince")
    await_condition(lambda: len(listed(page)) == 1, "the list", WAIT_S)
    delete(page, listed(page)[0])
    await_condition(lambda: listed(page) == [], "it gone", WAIT_S)
    page.escape()
    asked(page, "another quince")  # what the first had still to keep is kept before it
    open_list(page, "quince")
    await_condition(lambda: len(listed(page)) == 1, "the other one alone", WAIT_S)
    page.escape()


def test_a_question_is_edited_and_an_answer_asked_again(page: Page) -> None:
    asked(page, "first")
    asked(page, "follows")
    press(page, ".turn.user:first-child", "Edit")
    field = page.find(".edit textarea")
    field.clear()
    field.send_keys(script("second") + "\n")
    await_condition(lambda: answers(page) == ["second"], "the edited branch", WAIT_S)
    page.await_text(".turn.assistant .note", "in all")
    press(page, ".turn.assistant:last-child", "Ask again")
    page.await_text(".turn.assistant .place", "2/2")
    page.await_text(".turn.assistant .note", "in all")
    press(page, ".turn.user:first-child", "The version before")
    await_condition(lambda: answers(page) == ["first", "follows"], "the first branch", WAIT_S)
    page.browser.refresh()
    await_condition(lambda: answers(page) == ["first", "follows"], "it was kept", WAIT_S)


def test_a_busy_server_is_waited_for(page: Page, service: Service) -> None:
    longer = scripted(stream=True, tokens=100, delay_s=0.05)
    path = service.url + "/v1/chat/completions"
    with service.client.stream("POST", path, json=longer) as running:
        lines = running.iter_lines()  # which ends the stream when it is let go
        assert next(lines)
        page.ask(script("at last"))
        page.await_text(".turn.assistant .note", "Trying again in")
        below = (
            "return document.querySelector('.turn:last-child .note').getBoundingClientRect().bottom"
        )
        end = page.find("#composer").rect["y"]
        assert page.browser.execute_script(below) <= end, "the wait is in view"
    await_condition(lambda: answers(page) == ["at last"], "the answer", WAIT_S)
    # The browser notes every 429.
    page.browser.get_log("browser")


def test_escape_stops_and_gives_the_question_back(page: Page) -> None:
    page.ask(script("never seen", first_delay_s=60))
    await_condition(lambda: page.find("#stop").is_displayed(), "it runs", WAIT_S)
    page.escape()
    page.await_text("#notice", "Stopped")
    assert "never seen" in page.find("#question").get_property("value")
    page.find("#question").clear()


@pytest.mark.parametrize("told", [True, False], ids=["told", "before the browser tells of it"])
def test_who_scrolls_up_stays_there(page: Page, told: bool) -> None:
    if not told:  # more of the answer may come before the event does
        hush = "document.addEventListener('scroll', (e) => e.stopImmediatePropagation(), true)"
        page.browser.execute_script(hush)
    page.ask(script("line\n\n" * 300, delay_s=0.02))
    turns = "document.getElementById('turns')"
    taller = f"return {turns}.scrollHeight > {turns}.clientHeight + 200"
    await_condition(lambda: page.browser.execute_script(taller), "a long answer", WAIT_S)
    page.browser.execute_script(f"{turns}.scrollTop = 10")
    height = page.browser.execute_script(f"return {turns}.scrollHeight")
    grown = f"return {turns}.scrollHeight > {height} + 200"
    await_condition(lambda: page.browser.execute_script(grown), "more of it", WAIT_S)
    assert page.browser.execute_script(f"return {turns}.scrollTop") == 10
    composer = page.find("#composer").rect
    assert composer["y"] + composer["height"] <= 900
    page.find("#stop").click()


def test_a_picture_is_enlarged(page: Page) -> None:
    page.drop(EXAMPLE)
    asked(page, "seen")
    page.find(".turn.user .picture").click()
    await_condition(lambda: page.find("#picture-dialog img").is_displayed(), "it large", WAIT_S)
    page.escape()
    assert not page.find("#picture-dialog img").is_displayed()


def test_on_a_phone_titles_can_be_read_and_the_question_sent(page: Page) -> None:
    asked(page, "a title of some length, which fills a line of the list")
    page.resize(360, 640)
    try:
        open_list(page)
        await_condition(lambda: listed(page), "the list", WAIT_S)
        assert page.find("#conversations .title").rect["width"] > 250
        page.escape()
        for number in range(8):
            page.drop(EXAMPLE, f"picture number {number}.png")
        page.find("#question").send_keys("\ue008\n\ue000" * 20)  # lines of their own
        for css in ("#send", "#question", "#pictures"):
            rect = page.find(css).rect
            assert rect["y"] >= 0 and rect["y"] + rect["height"] <= 640, css
        assert page.find("#turns").rect["height"] > 60, "what is asked about is in view"
        script = "const all = document.getElementById('pictures'); return all.scrollHeight"
        assert page.browser.execute_script(script) > page.find("#pictures").rect["height"]
    finally:
        page.resize(1280, 900)


def test_the_conversation_is_exported(page: Page) -> None:
    asked(page, "to be kept elsewhere")
    catch = """
    const create = URL.createObjectURL;
    URL.createObjectURL = (blob) => {
      blob.text().then((text) => (window.exported = text));
      return create(blob);
    };
    HTMLAnchorElement.prototype.click = function () { window.exportedAs = this.download };
    """
    page.browser.execute_script(catch)
    page.find("[popovertarget=history]").click()
    page.find("#export").click()
    exported = await_condition(
        lambda: page.browser.execute_script("return window.exported"), "the export", WAIT_S
    )
    turns = json.loads(exported)["turns"]
    assert [turn["role"] for turn in turns] == ["user", "assistant"]
    assert turns[1]["text"] == "to be kept elsewhere"
    page.escape()

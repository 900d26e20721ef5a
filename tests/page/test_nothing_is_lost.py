"""What a user typed, and what a model wrote, stays: through failures, reloads and other tabs."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from tests.page.browser import Page
from tests.page.test_conversations import (
    WAIT_S,
    answers,
    asked,
    delete,
    listed,
    open_list,
    press,
    script,
)
from tests.page.test_page import EXAMPLE
from tests.processes import Service
from tests.waiting import await_condition

NEVER = {"first_delay_s": 600}
SLOW = {"delay_s": 0.05}


def thoughts(page: Page) -> str:
    """Also while they are folded."""
    css = "return document.querySelector('.turn:last-child .thought .text')?.textContent ?? ''"
    return str(page.browser.execute_script(css))


def written(page: Page) -> str:
    return str(page.find("#question").get_property("value"))


def await_running(page: Page) -> None:
    await_condition(lambda: page.find("#stop").is_displayed(), "it runs", WAIT_S)


def thinking(page: Page) -> None:
    page.ask(script("so " * 400, thoughts=400, **SLOW))
    await_condition(lambda: thoughts(page).startswith("so so"), "some thoughts", WAIT_S)


def test_thoughts_are_what_came_of_an_answer_that_was_stopped(page: Page) -> None:
    thinking(page)
    page.escape()
    page.await_text(".turn.assistant .note", "stopped")
    assert thoughts(page).startswith("so so") and written(page) == ""
    assert not page.find(".thought").get_property("open")
    page.browser.refresh()
    await_condition(lambda: thoughts(page).startswith("so so"), "them kept", WAIT_S)
    page.await_text(".turn.assistant .note", "stopped")


def test_thoughts_are_there_after_a_reload_in_the_middle(page: Page) -> None:
    thinking(page)
    # It is kept every half second, and this takes two and a half.
    await_condition(lambda: len(thoughts(page)) > 200, "many thoughts", WAIT_S)
    page.browser.refresh()
    page.await_text(".turn.assistant .note", "was left during this answer")
    assert thoughts(page).startswith("so so")
    page.await_ready()


def test_thoughts_without_an_answer_are_shown_as_such(page: Page) -> None:
    asked(page, "so that", thoughts=2)
    assert thoughts(page) == "so that" and answers(page) == [""]
    assert "gave no answer" in page.text(".turn.assistant .note")


def test_a_reload_while_nothing_has_come_keeps_the_question(page: Page) -> None:
    page.drop(EXAMPLE)
    page.ask(script("never seen", **NEVER))
    await_running(page)
    page.browser.refresh()
    page.await_text(".turn.assistant .note", "was left during this answer")
    assert "never seen" in page.text(".turn.user .text") and written(page) == ""
    assert page.find(".turn.user img").get_property("naturalWidth") > 0
    page.await_ready()


def test_a_question_that_comes_back_leaves_what_was_written_meanwhile(page: Page) -> None:
    page.ask(script("never seen", **NEVER))
    await_running(page)
    page.find("#question").send_keys("another thing")
    page.find("#stop").click()
    page.await_text("#notice", "Stopped")
    assert "never seen" in written(page) and written(page).endswith("another thing")
    page.browser.refresh()
    page.await_ready()
    assert "never seen" in written(page) and page.turns() == 0
    page.find("#question").clear()


def test_a_changed_question_stays_until_it_is_answered(page: Page) -> None:
    asked(page, "first")
    press(page, ".turn.user", "Edit")
    changed = script("never seen", **NEVER)

    def box() -> str:
        find = "return document.querySelector('.turn.user:first-child textarea')?.value ?? ''"
        return str(page.browser.execute_script(find))

    page.find(".edit textarea").clear()
    page.find(".edit textarea").send_keys(changed + "\n")
    await_running(page)
    page.escape()
    page.await_text("#notice", "Stopped")
    assert box() == changed and answers(page) == ["first"]
    asked(page, "more")
    assert box() == changed
    page.find(".edit textarea").send_keys("\ue00c")  # Escape, by mistake
    page.browser.refresh()
    await_condition(lambda: box() == changed, "it again", WAIT_S)
    press(page, ".edit", "Cancel")
    assert box() == "" and "first" in page.texts(".turn.user .text")[0]


def test_an_answer_goes_on_while_another_conversation_is_shown(page: Page) -> None:
    text = "peach " * 60
    page.ask(script(text, **SLOW))
    await_condition(lambda: "peach" in "".join(answers(page)), "its beginning", WAIT_S)
    page.find("#clear").click()
    assert page.turns() == 0 and page.find("#send").is_displayed()
    asked(page, "meanwhile")
    open_list(page, "peach")
    await_condition(lambda: len(listed(page)) == 1, "the list", WAIT_S)
    press(page, "#conversations", listed(page)[0])
    page.await_text(".turn.assistant .note", "in all")
    assert answers(page) == [text.strip()]
    assert page.find("#send").is_displayed()


def test_a_question_that_is_left_and_fails_is_still_there(page: Page) -> None:
    page.ask(script("plum", fault="fail", first_delay_s=1.5))
    await_running(page)
    page.find("#clear").click()
    open_list(page, "plum")
    await_condition(lambda: len(listed(page)) == 1, "the list", WAIT_S)
    press(page, "#conversations", listed(page)[0])
    page.await_text(".turn.assistant .note, #notice", "The script says")
    page.browser.get_log("browser")


@contextlib.contextmanager
def another_tab(page: Page, url: str) -> Iterator[Page]:
    first = page.browser.current_window_handle
    page.browser.switch_to.new_window("tab")
    try:
        other = Page(page.browser, url)
        other.await_ready()
        yield other
    finally:
        page.browser.close()
        page.browser.switch_to.window(first)


def test_what_another_tab_renames_or_deletes_is_so_here(page: Page, service: Service) -> None:
    asked(page, "quince")
    with another_tab(page, service.url) as other:
        open_list(other, "quince")
        await_condition(lambda: len(listed(other)) == 1, "the list", WAIT_S)
        press(other, "#conversations li:first-child", f"Rename {listed(other)[0]}")
        other.browser.switch_to.active_element.send_keys("Fruit\n")
        await_condition(lambda: listed(other) == ["Fruit"], "the new name", WAIT_S)
    page.ask(script("medlar " * 400, **SLOW))
    await_condition(lambda: "medlar" in "".join(answers(page)), "its beginning", WAIT_S)
    with another_tab(page, service.url) as other:
        open_list(other, "quince")
        await_condition(lambda: listed(other) == ["Fruit"], "the name kept", WAIT_S)
        delete(other, "Fruit")
        await_condition(lambda: listed(other) == [], "it gone", WAIT_S)
    page.await_text("#notice", "deleted in another tab")
    page.find("#stop").click()
    page.await_text(".turn.assistant .note", "stopped")
    open_list(page, "quince")
    await_condition(lambda: page.find("#no-conversations").is_displayed(), "none", WAIT_S)
    page.escape()

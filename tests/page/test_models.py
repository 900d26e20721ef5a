"""The picker of models: what it shows of a host, and that its orders reach one."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from scripts.demo_model import answers
from scripts.demo_model.scenes import example_scene
from tests.page.accessibility import obstacles
from tests.page.browser import Page
from tests.page.test_page import EXAMPLE
from tests.page.told_host import ToldHost, told_host
from tests.processes import ROOT, Service, serving
from tests.waiting import await_condition

TAB, ENTER, DOWN = "\ue004", "\ue007", "\ue015"
KEY, ADMIN_KEY = "a-key", "an-admin-key"
RADIO_HAS_FOCUS = "return document.activeElement.type === 'radio'"
VERDICT = "#memory .hint:last-child"


@pytest.fixture(scope="module")
def service() -> Iterator[Service]:
    with serving(workers=0) as running:
        yield running


@pytest.fixture
def host(service: Service) -> Iterator[ToldHost]:
    with told_host(service.worker_endpoint) as told:
        await_condition(lambda: service.get("/v1/models")["data"], "the host's catalogue")
        yield told
    await_condition(lambda: not service.get("/v1/models")["data"], "the host gone")


@pytest.fixture
def page(browser: Any, service: Service, host: ToldHost) -> Iterator[Page]:
    yield Page(browser, service.url, afresh=True)


def open_picker(page: Page) -> None:
    await_condition(lambda: page.find("#model").is_displayed(), "the picker's button")
    page.find("#model").click()
    await_condition(lambda: page.browser.execute_script(RADIO_HAS_FOCUS), "the keyboard in it")


def row(model: str, part: str = "") -> str:
    return f"[data-model={model}] {part}"


def row_text(page: Page, model: str, part: str = "") -> str:
    return " ".join(page.text(row(model, part)).split())


def press(page: Page, model: str) -> None:
    page.find(row(model, "button")).click()


def test_it_shows_how_each_model_is(page: Page, service: Service) -> None:
    open_picker(page)
    assert page.browser.switch_to.active_element.get_attribute("value") == "qwen"
    qwen = row_text(page, "qwen")
    for part in ("pictures", "pinned", "idle 2 min", "6.0 GiB", "32,768", "called gpt-4o"):
        assert part in qwen
    assert "loading 35 %" in row_text(page, "gemma")
    assert page.find(row("gemma", "progress")).get_property("value") == 0.35
    assert "downloading 12 %" in row_text(page, "pixtral")
    assert "Its files are cut off." in row_text(page, "broken")
    assert [page.text(row(name, "button")) for name in ("qwen", "gemma", "tiny")] == [
        "Unload",
        "Cancel",
        "Load",
    ]
    told = page.find("#memory [role=img]").get_attribute("aria-label")
    assert told == (
        "Memory for models on mac-1, 16.0 GiB: qwen 6.0 GiB, gemma 3.0 GiB, "
        "set aside for their caches 1.0 GiB"
    )
    shares = page.browser.execute_script(
        "const whole = document.querySelector('#memory .memory-bar').clientWidth;"
        "return [...document.querySelectorAll('#memory .part')].map(p => p.offsetWidth / whole)"
    )
    assert shares == [pytest.approx(of / 16, abs=0.01) for of in (6, 3, 1)]
    assert page.console_problems() == []


@pytest.mark.parametrize(
    ("model", "verdict"),
    [
        ("tiny", "which is free"),
        ("medium", "makes way for it"),
        ("large", "pinned models hold the rest"),
        ("huge", "more than models may take here"),
    ],
)
def test_it_says_what_a_chosen_one_would_take(page: Page, model: str, verdict: str) -> None:
    open_picker(page)
    page.find(row(model, "label")).click()
    page.await_text(VERDICT, verdict)
    fits = page.find("#memory .part.need").get_property("className")
    assert ("over" in fits) is (model != "tiny")


def test_the_keyboard_chooses_and_a_reload_keeps_it(page: Page) -> None:
    open_picker(page)
    focused = page.browser.switch_to.active_element
    focused.send_keys(DOWN)
    page.browser.switch_to.active_element.send_keys(DOWN, DOWN, DOWN, ENTER)
    await_condition(lambda: not page.find("#models").is_displayed(), "the picker closed")
    assert page.text("#model-name") == "tiny"
    assert page.browser.switch_to.active_element.get_attribute("id") == "question"
    page.browser.refresh()
    page.await_text("#model-name", "tiny")


def test_a_panel_closes_when_the_keyboard_goes_on_behind_it(page: Page) -> None:
    open_picker(page)
    page.find("#model-list > :last-child button").send_keys(TAB)
    await_condition(lambda: not page.find("#models").is_displayed(), "the panel closed")
    assert page.browser.switch_to.active_element.get_attribute("id") == "clear"


def test_a_long_list_is_searched_by_all_names(page: Page) -> None:
    open_picker(page)
    search = page.find("#find-model")
    search.send_keys("GPT")
    assert page.texts(".model-row:not([hidden]) strong") == ["qwen"]
    search.send_keys("-5")
    assert page.find("#no-models").is_displayed()
    search.clear()
    search.send_keys("Qwen3")
    page.find("#model-list label:has([value$=Qwen3-VL-4B])").click()
    page.await_text("#model-name", "Qwen3-VL-4B")
    assert page.text("#model-name") == "Qwen3-VL-4B", "without whose it is"


def test_orders_reach_the_host_and_refusals_the_user(page: Page, host: ToldHost) -> None:
    open_picker(page)
    press(page, "tiny")
    await_condition(lambda: "load tiny" in host.orders, "the order at the host")
    host.say("tiny", status="loading", fraction=0.5)
    page.await_text(row("tiny", ".state"), "loading 50 %")
    press(page, "tiny")
    await_condition(lambda: "unload tiny" in host.orders, "the order taken back")
    host.say("tiny", status="unloaded")
    press(page, "huge")
    page.await_text(row("huge", ".problem"), "The model 'huge' takes 40.0 GiB")
    press(page, "qwen")
    await_condition(lambda: "unload qwen" in host.orders, "an order for a pinned one")
    host.say("qwen", status="unloaded", idle_s=None)
    page.await_text(row("qwen", ".state"), "not loaded")
    page.await_text("#models-news", "qwen is unloaded")
    page.browser.get_log("browser")  # it notes the refusal's status


def test_a_question_to_a_model_on_its_way_says_so(page: Page, host: ToldHost) -> None:
    open_picker(page)
    page.find(row("gemma", "label")).click()
    page.escape()
    page.ask("Are you there?")
    page.await_text(".turn.assistant .note", "gemma is loading 35 %")
    host.say("gemma", fraction=0.8)
    page.await_text(".turn.assistant .note", "gemma is loading 80 %")
    page.find("#stop").click()
    page.await_text("#notice", "Stopped.")
    host.say("tiny", room="busy")
    open_picker(page)
    page.find(row("tiny", "label")).click()
    page.escape()
    page.find("#question").send_keys("\n")  # it was given back
    page.await_text(".turn.assistant .note", "tiny is loaded first")
    page.await_text(".turn.assistant .note", "tiny is not loaded yet and waits for memory")
    page.find("#stop").click()


def test_a_screen_reader_finds_its_way(page: Page) -> None:
    open_picker(page)
    assert obstacles(page) == []


def test_it_fits_on_a_phone(page: Page) -> None:
    page.resize(360, 740)
    open_picker(page)
    assert page.browser.execute_script("return document.documentElement.scrollWidth") <= 360
    panel = page.browser.execute_script(
        "const p = document.getElementById('models'); return [p.scrollWidth, p.clientWidth]"
    )
    assert panel[0] == panel[1]
    page.resize(1280, 900)


def test_who_may_give_no_orders_is_told_what_to_do(page: Page, host: ToldHost) -> None:
    """As behind a reverse proxy, without any key."""
    page.browser.execute_cdp_cmd("Network.enable", {})
    headers = {"headers": {"X-Forwarded-For": "192.0.2.7"}}
    page.browser.execute_cdp_cmd("Network.setExtraHTTPHeaders", headers)
    try:
        open_picker(page)
        press(page, "tiny")
        page.await_text(row("tiny", ".problem"), "only from its own machine")
    finally:
        page.browser.execute_cdp_cmd("Network.setExtraHTTPHeaders", {"headers": {}})
    assert host.orders == []
    page.browser.get_log("browser")


def test_an_admin_key_is_asked_for_where_orders_want_one(browser: Any) -> None:
    flags = ("--api-key", KEY, "--admin-key", ADMIN_KEY)
    with serving(workers=0, gateway_flags=flags) as service:
        service.client.headers["Authorization"] = f"Bearer {KEY}"
        with told_host(service.worker_endpoint) as host:
            page = Page(browser, service.url, afresh=True)
            give(page, "key", KEY)
            open_picker(page)
            press(page, "tiny")
            await_condition(lambda: page.find("#admin-key").is_displayed(), "the question")
            page.escape()
            page.await_text(row("tiny", "button"), "Load")
            press(page, "tiny")
            give(page, "admin-key", "wrong")
            page.await_text("#admin-key-problem", "did not accept")
            give(page, "admin-key", ADMIN_KEY)
            await_condition(lambda: "load tiny" in host.orders, "the order at the host")
        browser.execute_script("sessionStorage.clear()")
        browser.get_log("browser")


def give(page: Page, field: str, key: str) -> None:
    await_condition(lambda: page.find(f"#{field}").is_displayed(), f"the question for the {field}")
    page.find(f"#{field}").send_keys(key + "\n")


@contextlib.contextmanager
def serving_two_models(folder: Path) -> Iterator[Service]:
    for name in ("first", "second"):
        (folder / name).symlink_to(ROOT / "worker" / "demo_model")
    with serving(workers=0) as service:
        service.worker_flags = ()
        service.add_worker("--models-dir", str(folder))
        yield service


def test_an_unloaded_model_is_loaded_for_a_picture_and_answers_rightly(
    browser: Any, tmp_path: Path
) -> None:
    with serving_two_models(tmp_path) as service:
        page = Page(browser, service.url, afresh=True)
        await_condition(lambda: page.find("#model").is_displayed(), "the picker's button")
        page.find("#model").click()
        page.find(row("second", "label")).click()
        page.escape()
        page.drop(EXAMPLE)
        page.ask("What is in this image?")
        page.await_text(".turn.assistant .note", "second is load")  # "… loaded first", "… loading"
        page.await_text(".turn.assistant .note", "in all")
        assert page.text(".turn.assistant .note").startswith("second · ")
        assert page.await_answer() == answers.caption(example_scene())
        page.ask("How many shapes are there?")
        await_condition(lambda: page.turns() == 4, "a second turn")
        assert page.await_answer() == answers.count(2)
        page.find("#model").click()
        page.await_text(row("second", ".badges"), "pictures")
        assert "not loaded" in row_text(page, "first")
        press(page, "second")
        page.await_text(row("second", ".state"), "not loaded")
        os.killpg(service.workers[0].process.pid, signal.SIGKILL)
        page.await_text("#memory figcaption", "not connected")
        assert page.console_problems() == []

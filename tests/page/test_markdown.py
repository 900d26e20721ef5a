"""What a model writes, shown as it was meant, and never more than text, code, tables and maths."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from selenium.webdriver.common.keys import Keys

from tests.page.accessibility import obstacles
from tests.page.browser import Page
from tests.processes import Service
from tests.waiting import await_condition

ANSWER = """\
# Shapes

There are **two**, see [the list](https://example.com/list).

| shape | colour |
|---|---|
| circle | red |

```python
def area(r):
    return 3.14 * r**2  # roughly
```

It is $\\pi r^2$, or \\(a_1\\), and

$$\\int_0^1 x\\,dx = \\frac{1}{2}$$

but 5 $ or 7 $ are prices, and `$x$` is code.
"""

HOSTILE = """\
<img src=x onerror="document.title='broken'"> <script>document.title='broken'</script>
[link](javascript:document.title='broken') [data](data:text/html,<script>1</script>)
![spy](https://example.com/who-reads.png)
<iframe src="https://example.com"></iframe> <style>body{display:none}</style>
$\\href{javascript:document.title='broken'}{x}$ $\\includegraphics{https://example.com/spy.png}$
$<img src=x onerror=document.title='broken'>$
```html
<img src=x onerror="document.title='broken'">
```
"""


@pytest.fixture
def page(browser: Any, service: Service) -> Iterator[Page]:
    opened = Page(browser, service.url)
    opened.await_ready()
    opened.find("#clear").click()
    yield opened
    assert opened.console_problems() == []


def answered(page: Page, text: str) -> None:
    page.ask("script: " + json.dumps({"text": text}))
    page.await_text(".turn.assistant .note", "in all")
    # It is made of the whole answer, after the note.
    await_condition(lambda: page.text(".markdown") != "", "the answer as Markdown", 30)


def count(page: Page, css: str) -> int:
    return len(page.browser.find_elements("css selector", css))


def test_markdown_is_shown(page: Page) -> None:
    answered(page, ANSWER)
    assert page.text(".markdown h1") == "Shapes"
    assert page.text(".markdown strong") == "two"
    assert page.text(".markdown td") == "red"
    assert page.find(".markdown a").get_attribute("rel") == "noopener noreferrer"
    assert count(page, ".markdown .hljs-keyword") == 2
    assert count(page, ".markdown math") == 3
    assert count(page, ".maths.display math") == 1
    page.await_text(".markdown", "5 $ or 7 $ are prices")
    assert page.text(".markdown p:last-child code") == "$x$"


def test_a_screen_reader_finds_its_way_through_a_conversation(page: Page) -> None:
    answered(page, ANSWER)
    assert obstacles(page) == []


def test_code_is_copied_as_it_was_written(page: Page) -> None:
    page.browser.execute_script(
        "navigator.clipboard.writeText = async (text) => { window.copied = text }"
    )
    answered(page, ANSWER)
    page.find(".code-head button").click()
    page.await_text(".code-head button", "Copied")
    copied = page.browser.execute_script("return window.copied")
    assert copied == "def area(r):\n    return 3.14 * r**2  # roughly\n"
    page.find(".turn.assistant .tools button").click()
    page.await_text(".turn.assistant .tools button:first-child", "Copied")
    assert page.browser.execute_script("return window.copied") == ANSWER


def test_copying_works_where_the_page_is_not_on_https(page: Page) -> None:
    """As on a phone that asks a Mac by its name: browsers then offer no clipboard to pages."""
    page.browser.execute_script(
        "Object.defineProperty(navigator, 'clipboard', { value: undefined })"
    )
    answered(page, "to be copied")
    page.find(".turn.assistant .tools button").click()
    page.await_text(".turn.assistant .tools button:first-child", "Copied")
    page.find("#question").send_keys(Keys.CONTROL, "v")
    assert page.find("#question").get_property("value") == "to be copied"
    page.find("#question").clear()


def test_nothing_that_a_model_writes_acts(page: Page) -> None:
    answered(page, HOSTILE)
    assert page.browser.title == "proxy-OAI-compat"
    assert "<img src=x" in page.text(".markdown p")
    inside = ".markdown :is(img, script, iframe, style, form, input)"
    assert count(page, inside) == 0
    links = page.browser.find_elements("css selector", ".markdown a")
    addresses = [link.get_attribute("href") for link in links]
    assert all(address.startswith("https://example.com/") for address in addresses), addresses


def test_json_is_shown_as_a_table(page: Page) -> None:
    answered(page, json.dumps([{"shape": "circle", "at": {"x": 1}}, {"shape": "<b>square</b>"}]))
    assert page.text(".markdown thead").split() == ["shape", "at"]
    assert "<b>square</b>" in page.texts(".markdown tbody")[0]
    assert count(page, ".markdown .code") == 1


def test_json_without_a_bottom_is_shown_as_it_is(page: Page) -> None:
    """Tables in tables: a thousand of them end the tab, and each time that it is opened again."""
    answered(page, "[" * 1000 + "]" * 1000)
    assert count(page, ".markdown table") == 0 and page.text(".markdown").startswith("[[[")


def test_a_schema_of_the_settings_is_asked_for(page: Page) -> None:
    page.find("[popovertarget=settings]").click()
    page.find("#schema").send_keys("{")
    page.escape()
    page.ask("Anything?")
    page.await_text("#notice", "not JSON")
    page.browser.execute_script("localStorage.clear(); sessionStorage.clear()")

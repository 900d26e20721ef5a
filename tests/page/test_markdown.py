"""What a model writes, shown as it was meant, and never more than text, code, tables and maths."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from typing import Any

import pytest
from PIL import Image
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

MATHS = """\
\\[a\\] begins a line, then \\[b\\] is in one, \\(c
= d\\) in two.

- a list has \\[e\\], and
- \\[
  f
  = g
  \\]

The end is
$$
h
- i
$$,
and `\\[j\\]` is code, as is \\[ with `\\]`.

```
\\[k\\] $l$
```
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


def test_maths_is_maths_wherever_it_stands_but_in_code(page: Page) -> None:
    answered(page, MATHS)
    assert count(page, ".markdown math") == 6
    assert count(page, ".maths.display math") == 5
    assert page.text(".markdown p").splitlines()[-1] == "and \\[j\\] is code, as is [ with \\]."
    assert page.text(".markdown pre").strip() == "\\[k\\] $l$"
    shown = page.texts(".markdown")[0]
    assert "begins a line, then" in shown and "a list has" in shown


BLACK = """
const box = document.querySelector(".maths").getBoundingClientRect();
return [box.left, box.top, box.right, box.bottom];
"""
MARGIN_PX = 5
MOVED = r"\raisebox{12em}{\rule{999em}{2em}}\kern-9em\rule{1em}{1em}"


def test_maths_paints_over_nothing_else(page: Page) -> None:
    answered(page, rf"Before $x{MOVED}$ after.")
    left, top, right, bottom = page.browser.execute_script(BLACK)
    drawn = Image.open(io.BytesIO(page.browser.get_screenshot_as_png())).convert("L")
    box = (left - MARGIN_PX, top - MARGIN_PX, right + MARGIN_PX, bottom + MARGIN_PX)
    inside = drawn.crop(tuple(map(round, box)))
    assert inside.histogram()[0] > 0, "the rule is there"
    assert drawn.histogram()[0] == inside.histogram()[0], "black outside of the formula"
    assert page.browser.execute_script("return document.documentElement.scrollWidth") <= 1280


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


def test_numbers_of_json_are_those_that_were_written(page: Page) -> None:
    numbers = ["12345678901234567890", "1.10", "1e400", "-0"]
    answered(page, '{"of": [' + ", ".join(numbers) + "]}")
    assert page.texts(".markdown td td") == numbers


def test_a_row_without_a_field_has_an_empty_cell(page: Page) -> None:
    answered(page, '[{"constructor": "x", "__proto__": 1}, {"constructor": "y"}]')
    assert page.texts(".markdown td") == ["x", "1", "y", ""]


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

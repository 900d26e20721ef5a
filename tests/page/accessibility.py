"""What axe finds wrong for those who use the page by a screen reader or the keyboard."""

from __future__ import annotations

from pathlib import Path

from tests.clients.installed import npm_packages
from tests.page.browser import Page

PACKAGES = Path(__file__).with_name("package.json")
RUN = """
const done = arguments[0];
const told = ({ id, help, nodes }) => nodes.map((node) => `${id}: ${help}: ${node.html}`);
axe.run(document, { resultTypes: ["violations"] }).then((found) =>
  done(found.violations.flatMap(told)));
"""


def obstacles(page: Page) -> list[str]:
    """Return a line for each; skips the test where there is no npm to fetch axe with."""
    source = npm_packages(PACKAGES) / "node_modules" / "axe-core" / "axe.min.js"
    page.browser.execute_script(source.read_text(encoding="utf-8"))
    found: list[str] = page.browser.execute_async_script(RUN)
    return found

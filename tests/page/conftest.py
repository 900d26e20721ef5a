"""One browser, and for the tests of a module one service with the scripted engine."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.page.browser import Page, chromium
from tests.processes import Service, serving


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    with chromium() as running:
        yield running


@pytest.fixture(scope="module")
def service() -> Iterator[Service]:
    with serving() as running:
        yield running


@pytest.fixture
def page(browser: Any, service: Service) -> Iterator[Page]:
    """Opened as if for the first time."""
    opened = Page(browser, service.url, afresh=True)
    opened.await_ready()
    yield opened
    assert opened.console_problems() == []

"""docs/protocol.md says what the classes say, and says something of everything they name."""

from __future__ import annotations

import re
from typing import get_args

import pytest

from scripts.protocol_tables import DOCSTRINGS, DOCUMENT, with_tables
from shared.messages import FailureCode, FinishReason, RejectReason, WorkerState

TEXT = DOCUMENT.read_text()
HEADINGS = re.findall(r"^#+ (.+)$", TEXT, re.MULTILINE)


def test_its_tables_are_those_of_the_classes() -> None:
    assert with_tables(TEXT) == TEXT, "run: python -m scripts.protocol_tables"


@pytest.mark.parametrize("values", [WorkerState, RejectReason, FailureCode, FinishReason])
def test_each_value_is_explained(values: object) -> None:
    for value in get_args(values):
        assert f"\n| `{value}` |" in TEXT


def test_nothing_points_nowhere() -> None:
    anchors = {re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading in HEADINGS}
    assert set(re.findall(r"\]\(#([^)]+)\)", TEXT)) <= anchors
    chapters = [name for words in DOCSTRINGS.values() for name in re.findall(r'See "(.+?)"', words)]
    assert chapters
    assert set(chapters) <= set(HEADINGS)

"""Each test has the marks it needs, whoever wrote it: what --quick runs starts no process."""

from __future__ import annotations

import os

import pytest

from tests.conftest import marks_of
from tests.imports import ROOT


@pytest.mark.parametrize(
    ("file", "marks"),
    [
        ("e2e/test_queue.py", {"process"}),
        ("page/test_page.py", {"process", "browser"}),
        ("clients/test_langchain.py", {"process", "clients"}),  # by its folder's fixtures alone
        ("clients/frameworks/test_frameworks.py", {"process", "clients", "frameworks"}),
        ("worker/engine/schedule/test_batches.py", {"mlx"}),
        ("gateway/dispatch/core/test_dispatch_properties.py", set()),
        ("shared/test_wire.py", set()),
    ],
)
def test_marks_follow_from_what_a_file_imports(file: str, marks: set[str]) -> None:
    path = ROOT / "tests" / file
    assert path.exists()
    assert marks_of(path) == marks


def test_an_unmarked_test_cannot_start_a_process() -> None:
    with pytest.raises(pytest.fail.Exception, match="says so in its marks"):
        os.system("true")


@pytest.mark.process
def test_a_marked_one_can() -> None:
    assert os.system("true") == 0

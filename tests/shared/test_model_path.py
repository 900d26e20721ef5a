"""Paths as users write them."""

from __future__ import annotations

from pathlib import Path

import pytest

from shared.model_path import below, expanded
from tests.imports import ROOT, TIERS

NOBODYS = "~nobody-of-that-name/model"


def test_the_home_of_an_unknown_user_is_not_found(tmp_path: Path) -> None:
    assert expanded("~") == Path.home()
    assert expanded(NOBODYS) == Path(NOBODYS)
    assert not below(NOBODYS, tmp_path).exists()


@pytest.mark.parametrize("folder", [*TIERS, "scripts"])
def test_nothing_else_looks_for_homes(folder: str) -> None:
    """pathlib's own way raises RuntimeError where there is no such user."""
    files = list((ROOT / folder).rglob("*.py"))
    assert files and not [file for file in files if ".expanduser()" in file.read_text()]

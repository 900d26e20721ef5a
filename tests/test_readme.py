"""The README says what is true."""

from __future__ import annotations

from scripts.flag_tables import README, with_tables


def test_flag_tables_are_those_of_the_settings() -> None:
    text = README.read_text()
    assert with_tables(text) == text, "run: python -m scripts.flag_tables"

"""`scripts/families` finds what is equal, what is not, and what mlx-vlm itself cannot do."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import mlx.core as mx
import pytest

from scripts.family_sweep.__main__ import main
from scripts.family_sweep.asking import alone, together
from scripts.family_sweep.reference import NEAR, Reference
from scripts.family_sweep.row import Row
from scripts.family_sweep.table import BEGIN, DOCUMENT, END, with_tables

KINDS = ("glm4v", "kimi_vl", "molmo")
"""Positions left in the model's state, patches that look like pictures, pictures without
placeholders."""


def test_families_of_each_kind_say_what_mlx_vlm_says(tmp_path: Path) -> None:
    file = tmp_path / "rows.json"
    command = [sys.executable, "-m", "scripts.family_sweep", "--only", *KINDS, "--json", str(file)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)
    rows = {row["family"]: row for row in json.loads(file.read_text())}
    assert set(rows) == set(KINDS)
    assert done.returncode == 0, done.stdout
    assert all(row["verdict"] in ("equal", "partly off") for row in rows.values()), done.stdout
    assert all(row["said"]["cached"] == "=" for row in rows.values())
    assert all(row["said"]["picture"] == "=" for row in rows.values())


@pytest.mark.parametrize("most_pictures", [0, 1, 2])
def test_eight_come_at_once_and_no_more_pictures_than_a_prompt_may_have(most_pictures: int) -> None:
    asked = together(most_pictures)
    assert len(asked) == 8 and len({question.name for question in asked}) == 8
    counts = [len(question.images) for question in (*asked, *alone(most_pictures).values())]
    assert max(counts) == most_pictures


def test_answers_may_part_only_where_two_tokens_were_as_good_as_equal() -> None:
    leads = [mx.array([0.0, 5.0, NEAR / 2]), mx.array([5.0, 0.0, 5.0])]
    said = Reference([0, 1], leads)
    assert said.agrees([0, 1]) and said.agrees([2, 2])
    assert not said.agrees([1, 1]) and not said.agrees([0, 2]) and not said.agrees([0])
    assert not said.agrees([7, 1])


def test_a_row_is_judged_by_the_worst_that_was_found() -> None:
    assert Row("a", 2, {"text": "=", "picture": "-"}).verdict == "equal"
    assert Row("a", 2, {"text": "="}, off=["batching"]).verdict == "partly off"
    assert Row("a", 2, {"text": "=", "cold": "≠"}, off=["batching"]).verdict == "wrong"
    assert Row("a", 2, {"text": "internal_error"}).verdict == "wrong"
    assert Row("a", 0, {"text": "-", "cold": "-"}).verdict == "not comparable"
    assert Row("a", 2, refused="It writes by diffusion.").verdict == "refused"
    assert Row("a", 2, broken="its process ended with code 1").verdict == "broken"


def test_the_tables_take_the_place_of_those_before(tmp_path: Path) -> None:
    rows = [
        Row("seeing", 2, {"text": "=", "picture": "="}, off=["prefix_cache"]),
        Row("reading", 0, {"text": "="}),
        Row("failing", 1, {"text": "="}, upstream=dict.fromkeys(["picture", "turns"], "no")),
    ]
    text = with_tables(f"Before.\n{BEGIN}\nold\n{END}\nAfter.", rows)
    assert text.startswith("Before.\n") and text.endswith("\nAfter.") and "old" not in text
    assert "| seeing | = | = | - | - | - | - | prefix cache |" in text
    assert "Equal: reading." in text
    assert "failing, picture, turns: no" in text
    assert with_tables(text, rows) == text


def test_rows_come_back_from_what_was_written(tmp_path: Path) -> None:
    rows = [Row("one", 2, {"text": "="}, off=["pieces"]), Row("two", 0, refused="No.")]
    file = tmp_path / "found.json"
    file.write_text(json.dumps([row.as_json() for row in rows]))
    assert [Row.of_json(told) for told in json.loads(file.read_text())] == rows
    assert main(["--found", str(file), str(file)]) == 0


def test_the_document_has_the_place_for_them() -> None:
    text = DOCUMENT.read_text()
    assert text.count(BEGIN) == text.count(END) == 1

"""What is in the hub's cache already, and a reader who has had enough of it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from scripts.cached_models import INDEX
from tests.processes import ROOT

LIST = [sys.executable, "-m", "scripts.models", "list", "--cached"]


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    for name, files in {
        "whole": ["config.json", "model.safetensors"],
        "half": ["config.json", INDEX, "a.safetensors"],
        "other": ["model.gguf"],
    }.items():
        folder = tmp_path / "hub" / f"models--someone--{name}" / "snapshots" / "0123"
        folder.mkdir(parents=True)
        for file in files:
            (folder / file).write_text("{}")
        placed = {"weight_map": {"x": "a.safetensors", "y": "b.safetensors"}}
        if INDEX in files:
            (folder / INDEX).write_text(json.dumps(placed))
    return {**os.environ, "HF_HOME": str(tmp_path)}


def test_models_of_the_cache_are_offered(environment: dict[str, str]) -> None:
    told = subprocess.run(LIST, env=environment, cwd=ROOT, capture_output=True, text=True)
    assert told.returncode == 0, told.stderr
    rows = [line.split() for line in told.stdout.splitlines()]
    assert [(row[0], row[-1]) for row in rows[1:]] == [
        ("someone/half", "part"),
        ("someone/whole", "whole"),
    ]


def test_a_reader_that_has_had_enough_is_no_fault(environment: dict[str, str]) -> None:
    read_end, write_end = os.pipe()
    os.close(read_end)
    told = subprocess.run(LIST, env=environment, cwd=ROOT, stdout=write_end, stderr=subprocess.PIPE)
    os.close(write_end)
    assert (told.returncode, told.stderr) == (0, b"")

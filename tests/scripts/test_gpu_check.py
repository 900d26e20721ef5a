"""`scripts/gpu_check` where there is no GPU: everything runs in little, and what fails is told."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from scripts.benchmarks.report import Row
from scripts.gpu_checks.__main__ import wrong_rows
from tests.processes import ROOT


def check(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "scripts.gpu_checks", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def test_checks_end_as_tables_and_as_json(tmp_path: Path) -> None:
    file = tmp_path / "figures.json"
    done = check("--only", "device", "families", "endurance", "--json", str(file))
    assert done.returncode == 0, done.stderr
    tables = json.loads(file.read_text())["tables"]
    assert tables["Device"][0]["device"].startswith("CPU")
    for row in tables["Families, float32"]:
        assert row["equal alone"] == row["equal in company, cached"] == row["of"], row
    (looks,) = (rows for title, rows in tables.items() if title.startswith("Memory over"))
    assert [look["step"] for look in looks] == sorted({look["step"] for look in looks})
    assert all(title in done.stdout for title in tables)


def test_a_check_without_time_is_told_and_fails_the_whole(tmp_path: Path) -> None:
    done = check("--only", "device", "--minutes", "0")
    assert done.returncode == 1
    assert "device: not done within 0 s" in done.stdout


def test_a_wrong_answer_is_named() -> None:
    rows: list[Row] = [{"family": "llava", "ok": False}, {"family": "gemma3", "ok": True}]
    assert wrong_rows({"Families": rows, "Memory": [{"step": 1}]}) == ["llava"]

"""Every report that has a plot can be drawn."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from scripts.benchmarks import blas, plots, system
from scripts.benchmarks.load.loops import Outcome
from scripts.benchmarks.load.target import CASES
from scripts.benchmarks.report import Report
from scripts.benchmarks.server import Cell, Figures, reported, turn_row


def server() -> Report:
    figures = Figures()
    cells = [Cell(case, connections) for case in CASES for connections in (1, 8)]
    for cell in cells:
        for name in ("ours", "theirs"):
            load = Outcome(per_second=3.0, answered=3, latencies_s=[1.0])
            if cell.case.stream:
                load.first_s, load.gaps_s = [0.5], [0.1, 0.2]
            figures.turns[cell][name].append(turn_row(load, 64, {"server": 1.0}, cell.case.stream))
    return reported(figures, ["ours", "theirs"])


def whole_system() -> Report:
    wave = system.Wave(1.0, {"generator": 1.0, "engine": 1.0, "worker": 1.0, "gateway": 1.0})
    turn = {"generator": wave, "engine": wave, "system": wave}
    return Report("system", {"t": [system.row(streams, 64, [turn]) for streams in (1, 32)]})


def variants() -> Report:
    figures = {case: {"per_second": 2.0, "cpu_us": 8.0} for case in blas.CASES}
    rows = blas.engine_rows({"own": [figures], "fast": [figures]})
    return Report("blas", {"The engine in one process": rows})


def phases() -> Report:
    rows = [{"phase": name, "s": 1.0, "CPU s": 0.5} for name in ("load", "warm up")]
    return Report("start", {"Where the engine's start goes": rows})


@pytest.mark.process
@pytest.mark.parametrize(
    ("report", "files"),
    [
        (server(), {"server.svg", "server-waits.svg"}),
        (whole_system(), {"system.svg"}),
        (variants(), {"blas.svg"}),
        (phases(), {"start.svg"}),
    ],
)
def test_a_report_is_drawn(
    report: Report, files: set[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plots, "FOLDER", tmp_path / "plots")
    report.write(tmp_path / "report.json")
    assert plots.main([str(tmp_path / "report.json")]) == 0
    drawn = {path.name: path.read_text() for path in (tmp_path / "plots").iterdir()}
    assert set(drawn) == files
    content = json.loads((tmp_path / "report.json").read_text())
    assert all(content["code"] and "<svg" in text for text in drawn.values())

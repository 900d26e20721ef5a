"""Where a start's time goes, and how rows of BLAS variants are made."""

from __future__ import annotations

import sys

import psutil
import pytest

from scripts.benchmarks import blas, start
from scripts.benchmarks.servers.processes import DEMO_MODEL, Tier
from tests.waiting import await_condition


@pytest.mark.process
def test_every_phase_of_an_engine_start_is_timed() -> None:
    rows = start.phase_rows([start.engine_phases(str(DEMO_MODEL))])
    assert [row["phase"] for row in rows[-2:]] == ["load the model", "warm up"]
    assert all(row["CPU s"] > 0 for row in rows)


@pytest.mark.process
def test_processes_are_known_by_their_module() -> None:
    tier = Tier("x", [sys.executable, "-c", "import time; time.sleep(60)", "-m", "gateway"])
    try:
        (process,) = tier.family()
        # Until it has become the program, its command line is its parent's.
        await_condition(lambda: start.role_of(process) == "gateway", "the program")
        assert start.role_of(psutil.Process()) == ""
    finally:
        tier.stop()


def test_variants_are_multiples_of_the_first() -> None:
    def figures(per_second: float, cpu_us: float) -> blas.Figures:
        return {case: {"per_second": per_second, "cpu_us": cpu_us} for case in blas.CASES}

    rows = blas.engine_rows({"own": [figures(2.0, 8.0)] * 2, "fast": [figures(20.0, 1.0)] * 2})
    fast = next(row for row in rows if row["variant"] == "fast")
    assert (fast["times"], fast["less CPU, times"]) == (10.0, 8.0)

"""Answers of thousands of tokens: what a step leaves behind must not grow with their number."""

from __future__ import annotations

from pathlib import Path

import pytest

from scripts.checkpoints.building import build
from tests.worker.engine.conftest import MakeDriver
from tests.worker.engine.driving import job

STATM = Path("/proc/self/statm")
PAGE_KIB = 4
FIRST_LOOK, LAST_LOOK = 400, 800
"""Tokens; before the first, the process still fills what it has of the heap."""


def resident_kib() -> int:
    return int(STATM.read_text().split()[1]) * PAGE_KIB


@pytest.mark.skipif(not STATM.exists(), reason="resident memory is read as Linux tells it")
def test_a_step_leaves_no_memory_behind(drive: MakeDriver, tmp_path: Path) -> None:
    """Two rows of 28 layers: keys and values are 7 KiB a step, a sum that is never computed 57."""
    path = build("qwen2_vl", tmp_path / "deep", width=16, layers=28)
    driver = drive(model_path=path)
    for name in ("one", "other"):
        driver.submit(job(name, "Hello", max_tokens=900, ignore_eos=True))
    one = driver.results["one"]
    driver.until(lambda: len(one.tokens) >= FIRST_LOOK)
    before = resident_kib()
    driver.until(lambda: len(one.tokens) >= LAST_LOOK)
    assert resident_kib() - before < 20 * (LAST_LOOK - FIRST_LOOK)

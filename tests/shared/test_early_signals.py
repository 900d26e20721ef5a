"""A tier is told to stop at any time of its life: that is no failure."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.processes import ROOT

TOLD = "os.kill(os.getpid(), signal.SIGTERM);"


@pytest.mark.process
@pytest.mark.parametrize(
    "life",
    ["early_signals.heed();" + TOLD + "raise SystemExit(1)", "early_signals.ignore();" + TOLD],
    ids=["while it starts", "when it has ended"],
)
def test_it_ends_with_0(life: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", "import os, signal; from shared import early_signals;" + life],
        cwd=ROOT,
        check=False,
    )
    assert done.returncode == 0

"""Standard streams that whoever started a process has closed."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.processes import ROOT

PROGRAM = """
import os
from shared.standard_streams import keep_open
keep_open()
opened = os.open(os.devnull, os.O_RDONLY)
os._exit(0 if opened > 2 and all(map(os.get_inheritable, range(3))) else 1)
"""


@pytest.mark.parametrize("closed", ["<&-", ">&-", "<&- >&- 2>&-", ""])
def test_nothing_else_gets_their_numbers(closed: str) -> None:
    command = ["sh", "-c", f'exec {closed}; exec "$@"', "sh", sys.executable, "-c", PROGRAM]
    assert subprocess.run(command, cwd=ROOT, timeout=30).returncode == 0

"""A start of the gateway that is refused: one line and exit code 2."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from gateway.__main__ import listen
from tests.imports import ROOT


@pytest.mark.parametrize("taken", ["http", "workers"])
def test_a_taken_port_is_one_line_and_exit_code_2(taken: str) -> None:
    with listen("127.0.0.1", 0) as listener:
        port = str(listener.getsockname()[1])
        flags = ["--host", "127.0.0.1", "--port", "0", "--bind", "tcp://127.0.0.1:*"]
        flags += ["--port", port] if taken == "http" else ["--bind", f"tcp://127.0.0.1:{port}"]
        ended = subprocess.run(
            [sys.executable, "-m", "gateway", "--log-level", "error", *flags],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=30,
            env={k: v for k, v in os.environ.items() if not k.startswith("GATEWAY_")},
        )
    assert ended.returncode == 2, ended.stderr
    assert ended.stderr.count("\n") == 1
    assert "Address already in use" in ended.stderr

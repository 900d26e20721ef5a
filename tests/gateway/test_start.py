"""A start of the gateway that is refused: one line and exit code 2."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile

import pytest

from gateway.http.listening import listen
from tests.imports import ROOT
from tests.processes import serving


@pytest.mark.parametrize("taken", ["http", "workers", "path"])
def test_a_taken_port_is_one_line_and_exit_code_2(taken: str) -> None:
    with (
        listen("127.0.0.1", 0)[0] as listener,
        socket.socket(socket.AF_UNIX) as other,
        tempfile.TemporaryDirectory(dir="/tmp") as folder,
    ):
        path = f"{folder}/workers"
        other.bind(path)
        other.listen()
        port = str(listener.getsockname()[1])
        flags = ["--host", "127.0.0.1", "--port", "0", "--bind", "tcp://127.0.0.1:*"]
        flags += {
            "http": ["--port", port],
            "workers": ["--bind", f"tcp://127.0.0.1:{port}"],
            "path": ["--bind", f"ipc://{path}"],
        }[taken]
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


@pytest.mark.parametrize("told", [signal.SIGTERM, signal.SIGINT])
def test_a_gateway_that_was_told_to_stop_ends_with_0(told: signal.Signals) -> None:
    with serving(workers=0) as service:
        service.gateway.process.send_signal(told)
        assert service.gateway.process.wait(20) == 0
        assert "Traceback" not in service.gateway.output()

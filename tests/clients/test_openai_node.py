"""`openai` for Node."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

from tests.clients.asking import CAPITAL_ANSWER, COUNT_ANSWER, MODEL, PICTURE_URL
from tests.clients.installed import npm_packages


def test_chat_pictures_streams_and_errors(base_url: str) -> None:
    script = Path(__file__).parent / "openai_node.mjs"
    run = subprocess.run(
        ["node", script, base_url, MODEL, PICTURE_URL, npm_packages()],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    assert json.loads(run.stdout) == {
        "whole": CAPITAL_ANSWER,
        "seen": COUNT_ANSWER,
        "streamed": CAPITAL_ANSWER,
        "response": CAPITAL_ANSWER,
        "refused": "temperature",
        "models": [MODEL],
    }

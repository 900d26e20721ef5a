"""Simon Willison's `llm`, as its users run it: the command, with a model declared in YAML."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.clients.asking import (
    CAPITAL,
    CAPITAL_ANSWER,
    COUNT,
    COUNT_ANSWER,
    MODEL,
    PICTURE_PATH,
    Shape,
)

MODELS_YAML = """\
- model_id: here
  model_name: {model}
  api_base: {base_url}
  vision: true
  supports_schema: true
  supports_tools: true
"""
Ask = Callable[..., str]


@pytest.fixture
def ask(base_url: str, tmp_path: Path) -> Ask:
    declared = MODELS_YAML.format(model=MODEL, base_url=base_url)
    (tmp_path / "extra-openai-models.yaml").write_text(declared)
    environment = {**os.environ, "LLM_USER_PATH": str(tmp_path)}

    def run(*arguments: str) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "llm", "-m", "here", *arguments],
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    return run


def test_a_question_streamed_and_whole(ask: Ask) -> None:
    assert ask(CAPITAL) == CAPITAL_ANSWER
    assert ask(CAPITAL, "--no-stream") == CAPITAL_ANSWER


def test_an_attached_picture(ask: Ask) -> None:
    assert ask(COUNT, "-a", str(PICTURE_PATH)) == COUNT_ANSWER


def test_a_schema(ask: Ask) -> None:
    schema = json.dumps(Shape.model_json_schema())
    Shape.model_validate_json(ask("What is it?", "--schema", schema))

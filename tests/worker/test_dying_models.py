"""A model that brings its own process down while it is proven ends the worker, with a sentence."""

from __future__ import annotations

import json
import os
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from scripts.checkpoints.building import build
from scripts.doctor_checks import proof
from tests.processes import Tier
from tests.waiting import free_port
from worker.supervisor_pipe import EXIT_HOPELESS

pytestmark = pytest.mark.mlx

DYING = """
import os, pathlib, signal

from mlx_vlm.models.llama import Model, ModelConfig
from mlx_vlm.models.llama.llama import LanguageModel

call = LanguageModel.__call__
killed = pathlib.Path(__file__).with_name("killed")

def dying(self, tokens, *given, **named):
    if min(tokens.shape) > 1:
        if killed.exists():
            os.abort()
        killed.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return call(self, tokens, *given, **named)

LanguageModel.__call__ = dying
"""
"""Prompts read together end its process: as if somebody had killed it, then by its own doing."""


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = build("llama", tmp_path / "model")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "model_file": "dying.py"}))
    (folder / "dying.py").write_text(DYING)
    return folder


def test_a_death_in_the_proof_is_no_crash_loop(model: Path) -> None:
    gateway = f"tcp://127.0.0.1:{free_port()}"
    worker = Tier("worker", "--gateway", gateway, "--model-path", str(model), "--trust-remote-code")
    try:
        assert worker.process.wait(90) == EXIT_HOPELESS
        said = worker.output()
        assert said.count("starting it again") == said.count("(signal 9)") == 1
        sentence = "This model is not served: its process died (SIGABRT) while it was proven (with "
        assert said.count(sentence) == 1 and " rows: text 1, " in said
    finally:
        worker.stop()


def die(path: Path, told: Connection) -> None:
    told.send("it was proven")
    os.abort()


def test_the_doctor_outlives_a_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proof, "prove_apart", die)
    (finding,) = proof.check_proof(tmp_path)
    assert finding.wrong and "died (SIGABRT) while it was proven" in str(finding)

"""How long the prompts of a proof are."""

from __future__ import annotations

import math

import pytest

from tests.worker.engine.proof.spoiling import Patch


@pytest.fixture
def short_prompts_alone(monkeypatch: Patch) -> None:
    """Most faults are seen in them; `long_prompts_too` for the others."""
    monkeypatch.setattr("worker.engine.proof.proof.BEYOND_S", 0.0)


@pytest.fixture
def long_prompts_too(short_prompts_alone: None, monkeypatch: Patch) -> None:
    monkeypatch.setattr("worker.engine.proof.proof.BEYOND_S", math.inf)

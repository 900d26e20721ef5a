"""Models with faults, and what their proof finds."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import mlx.core as mx
import numpy as np
import pytest

from tests.worker.engine.driving import Driver
from worker.engine.model.family import Abilities
from worker.engine.options import EngineOptions
from worker.engine.proof.proof import Proof, prove

Patch = pytest.MonkeyPatch
Call = Callable[..., Any]

TEXT_ONLY = {"text", "prefix_cache", "pieces", "batching", "speculation"}
SEEING = {*Abilities().as_dict(), "text"}


def proof_of(driver: Driver) -> Proof:
    return prove(driver.engine, EngineOptions(model_path=""))


def off(proof: Proof) -> set[str]:
    assert set(proof.reasons) == {name for name, held in proof.proven.items() if not held}
    assert all(
        proof.abilities.as_dict().get(name, True) == held for name, held in proof.proven.items()
    )
    return set(proof.reasons)


def around_the_language_model(driver: Driver, patch: Patch, change: Call) -> None:
    """`change(tokens, logits)` is what a call of the network's language model returns, whoever
    calls it."""
    kind = type(driver.model.network.language_model)
    call = kind.__call__

    def changed(self: Any, inputs: mx.array, *args: Any, **given: Any) -> Any:
        output = call(self, inputs, *args, **given)
        output.logits = change(inputs, output.logits)
        return output

    patch.setattr(kind, "__call__", changed)


def before_the_language_model(driver: Driver, patch: Patch, spoil: Call) -> None:
    """`spoil(tokens, cache)` comes before each call."""
    kind = type(driver.model.network.language_model)
    call = kind.__call__

    def spoiled(self: Any, inputs: mx.array, *args: Any, **given: Any) -> Any:
        spoil(inputs, given["cache"])
        return call(self, inputs, *args, **given)

    patch.setattr(kind, "__call__", spoiled)


def skewed(logits: mx.array) -> mx.array:
    """Other answers: each token's logit is its neighbour's."""
    return mx.take(logits, (mx.arange(logits.shape[-1]) + 1) % logits.shape[-1], axis=-1)


def offset_of(layer: Any) -> float:
    return float(np.max(np.array(layer.offset)))

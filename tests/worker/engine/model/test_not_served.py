"""What does not continue a text token by token is refused by name when it is loaded."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import mlx.nn as nn
import pytest

from worker.engine.interface import ModelError
from worker.engine.load import load_engine
from worker.engine.model.not_served import check_served
from worker.engine.options import EngineOptions


class Model(nn.Module):  # type: ignore[misc]
    def __init__(self, language: nn.Module) -> None:
        super().__init__()
        self.config = SimpleNamespace(model_type="florence2")
        self.language_model = language

    def get_input_embeddings(self) -> None:
        pass


class Decoder(nn.Module):  # type: ignore[misc]
    def __call__(self, inputs: Any = None, decoder_input_ids: Any = None) -> None:
        pass


class Continuing(nn.Module):  # type: ignore[misc]
    def __call__(self, inputs: Any) -> None:
        pass


class Painter(nn.Module):  # type: ignore[misc]
    def __init__(self) -> None:
        super().__init__()
        self.config = SimpleNamespace(model_type="flux2")


def test_diffusion_is_refused_at_the_start(checkpoint: Callable[[str], Path]) -> None:
    options = EngineOptions(str(checkpoint("llada2_moe")))
    with pytest.raises(ModelError, match="llada2_moe writes by diffusion"):
        load_engine(options, lambda fraction: None, lambda: None)


def test_an_encoder_and_a_decoder_are_refused() -> None:
    with pytest.raises(ModelError, match="florence2 has an encoder"):
        check_served(Model(Decoder()))


def test_what_takes_no_prompt_is_refused() -> None:
    with pytest.raises(ModelError, match="flux2 is no chat model"):
        check_served(Painter())


def test_what_continues_its_prompt_is_served() -> None:
    check_served(Model(Continuing()))

"""Kinds of models that mlx-vlm loads, and that do not continue a text token by token."""

from __future__ import annotations

import inspect

import mlx.nn as nn

from worker.engine.interface import ModelError


def check_served(network: nn.Module) -> None:
    """
    Raises:
        ModelError: it writes by diffusion, reads by an encoder and writes by a decoder, or writes
            no text at all.
    """
    name = str(network.config.model_type)
    language = getattr(network, "language_model", network)
    if not callable(getattr(network, "get_input_embeddings", None)):
        raise ModelError(f"{name} is no chat model: mlx-vlm gives it no prompts to continue.")
    if "decoder_input_ids" in inspect.signature(type(language).__call__).parameters:
        raise ModelError(
            f"{name} has an encoder for its prompt and a decoder for its answer; only models that "
            "continue their prompt are served."
        )
    if _writes_by_diffusion(network, language):
        raise ModelError(
            f"{name} writes by diffusion, many tokens at once; only models that write one after "
            "the other are served."
        )


def _writes_by_diffusion(network: nn.Module, language: nn.Module) -> bool:
    if not callable(getattr(language, "generate", None)):
        return False
    # Not before it is needed: all kinds of generation come with it.
    from mlx_vlm.generate.diffusion import is_diffusion_model

    return bool(is_diffusion_model(network))

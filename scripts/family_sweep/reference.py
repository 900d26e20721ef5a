"""What mlx-vlm itself says: one prompt at a time, on a model loaded for it alone."""

from __future__ import annotations

import io
import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from worker.engine.model import blas

blas.load()

import mlx.core as mx  # noqa: E402
from mlx_vlm.generate import stream_generate  # noqa: E402
from PIL import Image  # noqa: E402

from worker.engine.model.loading import load_weights  # noqa: E402

NEAR = 1e-3
"""Log-probabilities as near as that may change places with the order of a sum."""


@dataclass(frozen=True)
class Reference:
    """mlx-vlm's answer.

    Attributes:
        leads: for each token, by how much each other one was less likely, [vocabulary].
    """

    tokens: list[int]
    leads: list[mx.array]

    def agrees(self, tokens: Sequence[int]) -> bool:
        """Whether these are the same tokens, up to where two were as good as equally likely."""
        if len(tokens) != len(self.tokens):
            return False
        for said, own, lead in zip(tokens, self.tokens, self.leads, strict=True):
            if said != own:
                return said < lead.size and bool((lead[said] < NEAR).item())
        return True


def reference(folder: Path, prompt: str, images: Sequence[bytes], count: int) -> Reference:
    """Ask mlx-vlm for so many tokens, greedily, whatever they are.

    Raises whatever it raises.
    """
    network, processor = load_weights(folder)
    tokenizer = getattr(processor, "tokenizer", processor)
    tokenizer.stopping_criteria.eos_token_ids = []
    pictures = [Image.open(io.BytesIO(data)).convert("RGB") for data in images]
    results = stream_generate(
        network, processor, prompt, image=pictures or None, max_tokens=count, temperature=0.0
    )
    # The last one is said twice, with the sums of what it took.
    said = list(itertools.islice(results, count))
    return Reference(
        [int(result.token) for result in said],
        [mx.max(result.logprobs) - result.logprobs for result in said],
    )

"""Tokens of an answer are embedded otherwise than a prompt's: Gemma 3n multiplies them by the root
of its width; LongCat-Flash n-gram looks back at the answer alone. A prompt's last token is not the
first of these, although it is computed when the answer begins.
"""

from __future__ import annotations

from dataclasses import replace

import mlx.nn as nn

from worker.engine.model.family import Family

MODEL_TYPES = frozenset({"gemma3n", "longcat_flash_ngram"})


def adjusted(family: Family, network: nn.Module) -> Family:
    return replace(family, last_with_prompt=True)

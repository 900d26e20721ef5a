"""Language models that cannot compute rows of several lengths together: their rotary embedding
takes one offset for all rows, as a number; or, as PaliGemma's, they make no mask for an answer's
tokens, so that a shorter row looks at the padding that it has beside a longer one.
"""

from __future__ import annotations

import mlx.nn as nn

from worker.engine.model.family import Family

MODEL_TYPES = frozenset({"gpt_bigcode", "internlm2", "internlm3", "paligemma"})


def adjusted(family: Family, network: nn.Module) -> Family:
    return family.without("batching")

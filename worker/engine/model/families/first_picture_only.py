"""Of several pictures, mlx-vlm's model looks at the first (`pixel_values[0]`) and puts its tiles in
the places of all: an answer would be about another number of pictures than were sent.
"""

from __future__ import annotations

import mlx.nn as nn

from worker.engine.model.family import Family

MODEL_TYPES = frozenset({"granite4_vision", "granite_vision", "llava_next"})


def adjusted(family: Family, network: nn.Module) -> Family:
    return family.without("several_pictures")

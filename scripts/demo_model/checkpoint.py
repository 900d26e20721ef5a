"""The served checkpoint: those of its files that are written by hand say what is trained."""

import json
from pathlib import Path
from typing import Any

CHECKPOINT = Path(__file__).parents[2] / "worker/demo_model"
CONFIGURATIONS = ("config.json", "preprocessor_config.json", "generation_config.json")


def read_config(name: str) -> dict[str, Any]:
    """One of CONFIGURATIONS."""
    return dict(json.loads((CHECKPOINT / name).read_text()))

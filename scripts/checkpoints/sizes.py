"""Small numbers for what a family of text alone wants to know of itself.

mlx-vlm says by their names what stands in a model's configuration. What has no default there, or
that of a large model, becomes small (`sizes.toml`).
"""

from __future__ import annotations

import dataclasses
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

SIZES = Path(__file__).with_name("sizes.toml")


def small_sizes(model_type: str) -> dict[str, Any]:
    """What to write into the `config.json` of such a model, beside the usual sizes."""
    from mlx_vlm.utils import get_model_and_args

    architecture, _ = get_model_and_args({"model_type": model_type})
    small = tomllib.loads(SIZES.read_text(encoding="utf-8"))
    wanted = set(_wanted(architecture.ModelConfig, small))
    return {name: value for name, value in small.items() if name in wanted}


def _wanted(kind: Any, small: dict[str, Any]) -> Iterator[str]:
    for field in dataclasses.fields(kind):
        required = (
            field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
        )
        if required or _is_larger(field.default, small.get(field.name)):
            yield field.name


def _is_larger(default: Any, small: Any) -> bool:
    return type(default) is int and type(small) is int and default > small

"""Two MLX calls whose type stubs say less than is true."""

from __future__ import annotations

from typing import Any

import mlx.core as mx


def to_host(array: mx.array) -> Any:
    """Wait for an array and return it as (nested lists of) Python numbers."""
    return array.tolist()


def start(arrays: Any) -> None:
    """Begin to compute arrays, in any nesting, without waiting for them."""
    mx.async_eval(arrays)  # type: ignore[no-untyped-call]

"""What MLX computes on, asked by name: is there a GPU, what is it called, what memory has it.

A GPU is Metal's or CUDA's. What only a CPU needs (weights in float32, a fast BLAS, streams side by
side) goes by `has_gpu`; what only Metal has, its wired memory, goes by `has_metal`. No code here
needs Metal's own kernels: grammars' bit masks are applied with plain MLX.
"""

from __future__ import annotations

import platform

import mlx.core as mx

CACHE_SHARE = 0.25
"""Most of the GPU's memory that freed buffers may keep, so that they do not crowd it."""


def has_gpu() -> bool:
    """Whether MLX computes on a GPU unless told otherwise."""
    return bool(mx.default_device() == mx.gpu)


def has_metal() -> bool:
    return has_gpu() and mx.metal.is_available()


def device_name() -> str:
    """As the device calls itself; the processor's kind where there is no GPU."""
    if not has_gpu():
        return f"CPU ({platform.machine()})"
    return str(mx.device_info(mx.gpu).get("device_name", "GPU"))


def memory_bytes() -> int | None:
    """What models and caches may take of a GPU: on Metal what the system recommends, on CUDA all
    that the card has. None without a GPU, or where it does not tell."""
    if not has_gpu():
        return None
    told = mx.device_info(mx.gpu)
    found = told.get("max_recommended_working_set_size" if has_metal() else "total_memory")
    return int(found) if found else None


def set_memory_limits(budget_bytes: int | None = None) -> int | None:
    """Bound what freed buffers keep, and wire what Metal recommends, as mlx-lm and mlx-vlm do.

    Args:
        budget_bytes: what this process may take, if it was told.

    Returns:
        `memory_bytes()`.
    """
    limit_bytes = memory_bytes()
    if limit_bytes is not None and has_metal():
        mx.set_wired_limit(limit_bytes)
    bounds = [size for size in (limit_bytes, budget_bytes) if size is not None]
    if bounds:
        mx.set_cache_limit(int(min(bounds) * CACHE_SHARE))
    return limit_bytes


if __name__ == "__main__":
    # For processes that do not import MLX.
    print(memory_bytes() or 0)

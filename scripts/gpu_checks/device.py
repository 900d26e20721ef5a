"""What this machine computes on, by its own words and by two numbers of its own."""

from __future__ import annotations

import time

import mlx.core as mx

from scripts.benchmarks.report import Row
from scripts.gpu_checks.sizes import Sizes
from worker.engine.model.device import device_name, has_gpu, has_metal, memory_bytes
from worker.engine.model.loading import versions

GIB = 2**30
PRODUCT_SIDE = 8192
COPIED_BYTES = 4 * GIB
TIMES = 10


def check(sizes: Sizes) -> dict[str, list[Row]]:
    backend = "Metal" if has_metal() else "CUDA" if has_gpu() else "CPU"
    memory = memory_bytes()
    row: Row = {
        "device": device_name(),
        "back end": backend,
        "memory_gib": memory / GIB if memory else None,
        **versions(),
    }
    if has_gpu():
        row |= {"bfloat16_tflops": product_tflops(), "copy_gb_per_s": copy_gb_per_s()}
    return {"Device": [row]}


def product_tflops() -> float:
    """Of square matrices in bfloat16."""
    one, other = (
        mx.random.normal((PRODUCT_SIDE, PRODUCT_SIDE)).astype(mx.bfloat16) for _ in range(2)
    )
    seconds = _seconds(lambda: one @ other)
    return 2 * PRODUCT_SIDE**3 / seconds / 1e12


def copy_gb_per_s() -> float:
    """Bytes read and written by an addition of one to a large array."""
    array = mx.zeros((COPIED_BYTES // 4,), mx.float32)
    return 2 * COPIED_BYTES / _seconds(lambda: array + 1) / 1e9


def _seconds(compute: object) -> float:
    assert callable(compute)
    mx.eval(compute(), compute())
    started = time.perf_counter()
    for _ in range(TIMES):
        mx.eval(compute())
    return (time.perf_counter() - started) / TIMES

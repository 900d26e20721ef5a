"""The engine's front door: it gives MLX its BLAS before anything imports MLX."""

from __future__ import annotations

from worker.engine.model import blas

blas.load()

from worker.engine.engine import MlxEngine  # noqa: E402
from worker.engine.interface import Report, WakeLoop  # noqa: E402
from worker.engine.model.device import has_gpu, set_memory_limits  # noqa: E402
from worker.engine.model.model import load_model  # noqa: E402
from worker.engine.model.warmup import warm_up  # noqa: E402
from worker.engine.options import EngineOptions  # noqa: E402
from worker.engine.schedule.memory_budget import MemoryBudget  # noqa: E402


def load_engine(options: EngineOptions, report: Report, wake: WakeLoop) -> MlxEngine:
    """Load the model, warm it up and return the engine that serves it.

    Belongs on the engine thread, which makes every later call: MLX's streams are a thread's own.

    Raises:
        ModelError: the model can never work.
        ModelUnavailable: it cannot be had now.
    """
    limit_bytes = set_memory_limits()
    model = load_model(options, report)
    memory = MemoryBudget(limit_bytes, model.bytes_per_token)
    memory.describe()
    threads = blas.choose_threads(model, gpu=has_gpu())
    engine = MlxEngine(model, options, memory, threads, wake)
    warm_up(engine)
    engine.forget()
    report(1.0)
    return engine

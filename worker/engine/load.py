"""The engine's door. Importing it gives MLX its BLAS first, so import MLX through here."""

from worker.engine.model.openblas import load_openblas

load_openblas()

from worker.engine.engine import MlxEngine  # noqa: E402

__all__ = ["MlxEngine"]

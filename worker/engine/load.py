"""The engine's door. Importing it gives MLX its BLAS first, so import MLX through here."""

from worker.engine.model import blas

blas.load()

from worker.engine.engine import MlxEngine  # noqa: E402

__all__ = ["MlxEngine"]

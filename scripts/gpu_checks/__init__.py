"""Whether the engine is right and fast on a GPU: what `scripts/gpu_check` asks, one module each."""

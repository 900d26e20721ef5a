"""Family by family: does the engine say what mlx-vlm says by itself?"""

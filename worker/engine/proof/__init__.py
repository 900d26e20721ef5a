"""What the engine may do with a model is tried when it is loaded, against mlx-vlm's own answers."""

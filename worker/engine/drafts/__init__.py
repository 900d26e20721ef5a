"""What a row is likely to say next, guessed on the host; no MLX."""

"""What turns jobs into tokens. Only this room imports MLX."""

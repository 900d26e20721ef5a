"""Jobs in, tokens out: a supervisor around an engine process that holds one MLX model."""

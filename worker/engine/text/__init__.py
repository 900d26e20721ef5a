"""From token ids to text, thoughts and tool calls. No MLX."""

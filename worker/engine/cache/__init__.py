"""What the engine remembers: keys and values, prompts, picture features."""

"""OpenAI's older completions: a text goes in, its continuation comes out."""

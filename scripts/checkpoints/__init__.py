"""Checkpoints for tests and benchmarks: tiny ones with random weights, and changed copies.

A family is one file in `families/`; what its prompts look like is two in `chat_formats/`.
"""

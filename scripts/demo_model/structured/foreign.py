"""Texts that the model knows nothing of: those of chat apps, of programs, of anybody."""

import random

from scripts.demo_model.structured.topics import PHRASES

OPENINGS: list[str] = PHRASES["foreign"]["openings"]
WORDS: list[str] = PHRASES["foreign"]["words"].split()
LETTERS = "abcdefghijklmnopqrstuvwxyz"


def foreign_word(rng: random.Random) -> str:
    """An English word, a number, a name or a string of letters."""
    choice = rng.random()
    if choice < 0.8:
        return rng.choice(WORDS)
    if choice < 0.85:
        return str(rng.randint(0, 9999))
    letters = "".join(rng.choices(LETTERS, k=rng.randint(2, 10)))
    return letters.capitalize() if choice < 0.92 else letters


def foreign_line(rng: random.Random) -> str:
    """A sentence, a list's item, a line of a program or of JSON."""
    words = [foreign_word(rng) for _ in range(rng.randint(2, 14))]
    choice = rng.random()
    if choice < 0.6:
        return " ".join(words).capitalize() + rng.choice((".", ".", ".", "?", "!", ":"))
    if choice < 0.75:
        return rng.choice(("- ", "* ", "1. ", "## ")) + " ".join(words)
    if choice < 0.88:
        return f"{words[0]} = {words[1]}({', '.join(words[2:5])})"
    return f'{{"{words[0]}": "{" ".join(words[1:4])}"}}'


def foreign_text(most_lines: int, rng: random.Random) -> str:
    """One to `most_lines` lines."""
    lines = [foreign_line(rng) for _ in range(rng.randint(1, most_lines))]
    if rng.random() < 0.5:
        lines.insert(0, rng.choice(OPENINGS))
    return rng.choice(("\n", "\n", "\n\n", " ")).join(lines)

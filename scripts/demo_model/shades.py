"""Shades of the named colors of shapes and backgrounds."""

import random

from scripts.demo_model.phrases import table

Rgb = tuple[int, int, int]

_SHADES = table("shades")
SHAPE_SHADES: dict[str, list[str]] = _SHADES["shapes"]
BACKGROUND_SHADES: dict[str, list[str]] = _SHADES["backgrounds"]

COLORS: tuple[str, ...] = tuple(SHAPE_SHADES)
BACKGROUNDS: tuple[str, ...] = tuple(BACKGROUND_SHADES)


def parse_hex(text: str) -> Rgb:
    """The red, green and blue (0..255) of six hexadecimal digits."""
    return int(text[0:2], 16), int(text[2:4], 16), int(text[4:6], 16)


def random_shade(shades: list[str], rng: random.Random, spread: int = 4) -> Rgb:
    """One of the shades, each channel moved by up to `spread`."""
    red, green, blue = parse_hex(rng.choice(shades))

    def moved(channel: int) -> int:
        return min(255, max(0, channel + rng.randint(-spread, spread)))

    if rng.random() < 0.5:
        return red, green, blue
    return moved(red), moved(green), moved(blue)

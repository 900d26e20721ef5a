"""Shades of the named colors, as web colors and plotting palettes have them.

Colors in between two names (navy, teal, lime, amber, vermilion, magenta) are left out: people do
not agree on their names. The shades of a gray background are told apart by lightness: CSS calls
#a9a9a9 "darkgray" and #d3d3d3 "lightgray", so dark ends at 172 and light begins at 184.
"""

import random

Rgb = tuple[int, int, int]

# CSS names; matplotlib tab10 and Set1; seaborn deep and bright; Okabe-Ito; Tableau; plotly;
# ggplot2; Material; Tailwind; flat UI; the logos of large web sites.
SHAPE_SHADES: dict[str, str] = {
    "red": """ff0000 ff0000 d62728 e41a1c dc143c b22222 e74c3c f44336 ef4444 dc2626 c0392b 8b0000
        cc0000 db4437 ea4335 e15759 c44e52 ef553b ff4136 f8766d e8000b e53935 d32f2f b91c1c
        ee0000 e6194b fa0000 aa0000""",
    "green": """008000 008000 00ff00 2ca02c 228b22 32cd32 27ae60 2ecc71 4caf50 22c55e 16a34a
        006400 3cb44b 4daf4a 55a868 59a14f 009e73 00ba38 00cc96 34a853 2e8b57 2ecc40 1ac938
        66bb6a 388e3c 15803d 0f9d58 43a047 00aa00 00c800""",
    "blue": """0000ff 0000ff 1f77b4 377eb8 3498db 2196f3 3b82f6 2563eb 4169e1 1e90ff 0072b2
        4285f4 4c72b0 4e79a7 619cff 636efa 0074d9 023eff 4363d8 1976d2 0000cd 2980b9 6495ed
        4682b4 1d4ed8 1e88e5 1565c0 56b4e9 0000aa 0064ff""",
    "yellow": """ffff00 ffff00 ffd700 f1c40f ffeb3b fdd835 facc15 eab308 f0e442 ffe119 ffdc00
        fbbc05 f4b400 fde047 edc948 ffff33 ffc400 fff000 ffee58 f5d800 ffe600""",
    "orange": """ffa500 ffa500 ff7f0e ff8c00 e67e22 f39c12 ff9800 f97316 fb8c00 e69f00 f58231
        ff7f00 dd8452 f28e2b ffa15a ff851b ea580c fb923c ff7c00 f57c00 d35400 ff8000""",
    "purple": """800080 800080 9467bd 8e44ad 9b59b6 9c27b0 a855f7 9333ea 8b5cf6 984ea3 911eb4
        8172b3 b07aa1 c77cff ab63fa b10dc9 8b2be2 8a2be2 9370db 7b1fa2 663399 673ab7 ba55d3
        9932cc 6a0dad 7e22ce 5e35b1 cc79a7""",
    "black": "000000 000000 000000 0a0a0a 111111 141414 1a1a1a 18181b 0f172a 020617",
    "white": "ffffff ffffff ffffff fafafa fcfcfc f8f8f8 fffafa fdfdfd f9fafb",
}

BACKGROUND_SHADES: dict[str, str] = {
    "white": "ffffff ffffff ffffff fafafa fcfcfc f8f8f8 fdfdfd f9fafb",
    "light gray": """d3d3d3 d3d3d3 c0c0c0 cccccc dcdcdc e0e0e0 eeeeee bdbdbd e5e5e5 d1d5db e5e7eb
        bbbbbb c8c8c8 dddddd d9d9d9 f0f0f0 bebebe cbd5e1""",
    "dark gray": """a9a9a9 404040 404040 555555 555555 696969 696969 333333 444444 505050 4b5563
        374151 424242 616161 666666 5a5a5a 4d4d4d 3c3c3c 777777 303030 a0a0a0""",
    "black": "000000 000000 000000 0a0a0a 111111 141414 1a1a1a 18181b",
}

COLORS: tuple[str, ...] = tuple(SHAPE_SHADES)
BACKGROUNDS: tuple[str, ...] = tuple(BACKGROUND_SHADES)


def parse_hex(text: str) -> Rgb:
    """The red, green and blue (0..255) of six hexadecimal digits."""
    return int(text[0:2], 16), int(text[2:4], 16), int(text[4:6], 16)


def random_shade(shades: str, rng: random.Random, spread: int = 4) -> Rgb:
    """One of the listed shades, each channel moved by up to `spread`."""
    red, green, blue = parse_hex(rng.choice(shades.split()))

    def moved(channel: int) -> int:
        return min(255, max(0, channel + rng.randint(-spread, spread)))

    if rng.random() < 0.5:
        return red, green, blue
    return moved(red), moved(green), moved(blue)

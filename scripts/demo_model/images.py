"""From a picture to patches, number for number as mlx-vlm's Qwen2-VL image processor does it.

Training reads patches as bytes (one frame, not yet normalized), a quarter of the memory of what
the processor hands out; `network` does the rest.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from scripts.demo_model.checkpoint import read_config

_CONFIG = read_config("preprocessor_config.json")
PATCH: int = _CONFIG["patch_size"]
MERGE: int = _CONFIG["merge_size"]
FRAMES: int = _CONFIG["temporal_patch_size"]
"""An image is a film of so many equal frames."""
FACTOR = PATCH * MERGE
SMALLEST_AREA: int = _CONFIG["min_pixels"]
LARGEST_AREA: int = _CONFIG["max_pixels"]


@dataclass(frozen=True)
class Patches:
    """An image's patches: `pixels` is (rows * columns, 3 * PATCH * PATCH) bytes, each MERGE x
    MERGE block of patches in a row; `rows` and `columns` count patches."""

    pixels: NDArray[np.uint8]
    rows: int
    columns: int

    @property
    def tokens(self) -> int:
        """How many tokens the image becomes in the prompt."""
        return self.rows * self.columns // MERGE**2


def resized(width: int, height: int) -> tuple[int, int]:
    """The width and height an image is brought to: multiples of FACTOR, of a bounded area."""
    columns, rows = round(width / FACTOR) * FACTOR, round(height / FACTOR) * FACTOR
    if columns * rows > LARGEST_AREA:
        scale = math.sqrt(width * height / LARGEST_AREA)
        columns = max(FACTOR, math.floor(width / scale / FACTOR) * FACTOR)
        rows = max(FACTOR, math.floor(height / scale / FACTOR) * FACTOR)
    elif columns * rows < SMALLEST_AREA:
        scale = math.sqrt(SMALLEST_AREA / (width * height))
        columns = math.ceil(width * scale / FACTOR) * FACTOR
        rows = math.ceil(height * scale / FACTOR) * FACTOR
    return columns, rows


def to_patches(image: Image.Image) -> Patches:
    """Resize the picture and cut it."""
    width, height = resized(*image.size)
    image = image.convert("RGB")
    if image.size != (width, height):
        image = image.resize((width, height), Image.Resampling.BICUBIC)
    rows, columns = height // PATCH, width // PATCH
    blocks = np.asarray(image).reshape(
        rows // MERGE, MERGE, PATCH, columns // MERGE, MERGE, PATCH, 3
    )
    pixels = blocks.transpose(0, 3, 1, 4, 6, 2, 5).reshape(rows * columns, -1)
    return Patches(np.ascontiguousarray(pixels), rows, columns)

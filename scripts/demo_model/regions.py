"""What each image token should know: an extra lesson for the vision tower, in training only.

From answers alone, the tower has to find out by itself where the quarters of an image of any
shape meet. Telling every token which quarter it lies in, and what is there, shortens that a lot.
"""

import numpy as np
from numpy.typing import NDArray

from scripts.demo_model.answers import at
from scripts.demo_model.scenes import KINDS, QUARTERS, Scene
from scripts.demo_model.shades import BACKGROUNDS, COLORS

UNKNOWN = -100
# Classes of each lesson; the last color and the last kind stand for an empty quarter.
LESSONS: tuple[int, ...] = (len(QUARTERS), len(COLORS) + 1, len(KINDS) + 1, len(BACKGROUNDS))


def token_lessons(scene: Scene, rows: int, columns: int) -> NDArray[np.int64]:
    """(rows * columns, lessons): quarter, color, kind and background for each token of a grid;
    UNKNOWN where a token lies in several quarters, except for the background."""
    lower = np.sign(2 * np.arange(rows) + 1 - rows)[:, None]
    right = np.sign(2 * np.arange(columns) + 1 - columns)[None, :]
    quarters = np.where(lower * right == 0, -1, (lower > 0) * 2 + (right > 0)).ravel()
    known = np.array([_quarter_lessons(scene, quarter) for quarter in QUARTERS])
    lessons = np.where(quarters[:, None] < 0, UNKNOWN, known[quarters])
    lessons[:, -1] = BACKGROUNDS.index(scene.background)
    return lessons


def _quarter_lessons(scene: Scene, quarter: str) -> tuple[int, int, int, int]:
    shape = at(scene, quarter)
    index = QUARTERS.index(quarter)
    if shape is None:
        return index, len(COLORS), len(KINDS), 0
    return index, COLORS.index(shape.color), KINDS.index(shape.kind), 0

"""A call of a vision tower, taken apart into one for each picture."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import mlx.core as mx
from mlx.utils import tree_flatten

from worker.engine.cache.arrays import to_host
from worker.engine.model.family import Split


@dataclass(frozen=True)
class Item:
    """What the tower is called with, for one image where calls are taken apart."""

    args: tuple[Any, ...]
    kwargs: dict[str, Any]

    @property
    def shapes(self) -> tuple[object, ...]:
        """Of all arrays: how an image is cut or padded may depend on the others of its prompt."""
        values = (*self.args, *self.kwargs.values())
        return tuple(value.shape for value in values if isinstance(value, mx.array))

    @property
    def size(self) -> int:
        """How many numbers it has, about what it costs."""
        values = tree_flatten([self.args, self.kwargs])
        return sum(leaf.size for _, leaf in values if isinstance(leaf, mx.array)) or 1


def taken_apart(call: Item, split: Split) -> list[Item]:
    """Cut a tower's call into one for each image; the call itself where that is not possible."""
    if not call.args or not isinstance(call.args[0], mx.array):
        return [call]
    if split is Split.BY_GRID:
        return _by_grid(call)
    if split is Split.BY_ROW and call.args[0].ndim == 4:
        return _by_row(call)
    return [call]


def _by_grid(call: Item) -> list[Item]:
    """Patches [all patches, width], of how many of which [images, 3] a grid tells: it is the
    second argument, or the one of that name."""
    pixels, *others = call.args
    grid = others[0] if others else call.kwargs.get("grid_thw")
    if not isinstance(grid, mx.array):
        return [call]
    counts = [int(t * h * w) for t, h, w in to_host(grid)]
    if sum(counts) != pixels.shape[0]:
        return [call]
    items: list[Item] = []
    start = 0
    for index, count in enumerate(counts):
        row = grid[index : index + 1]
        args = tuple(row if value is grid else value for value in others)
        kwargs = {name: row if value is grid else value for name, value in call.kwargs.items()}
        items.append(Item((pixels[start : start + count], *args), kwargs))
        start += count
    return items


def _by_row(call: Item) -> list[Item]:
    """Whole pictures [images, ...]: other inputs with that first axis are cut with them."""
    count = call.args[0].shape[0]

    def cut(value: Any, index: int) -> Any:
        is_row = isinstance(value, mx.array) and value.ndim > 0 and value.shape[0] == count
        return value[index : index + 1] if is_row else value

    return [
        Item(
            tuple(cut(value, index) for value in call.args),
            {name: cut(value, index) for name, value in call.kwargs.items()},
        )
        for index in range(count)
    ]

"""Which slot each row has and how long it is: known on the host, and once for all layers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import mlx.core as mx

VIEW_TOKENS = 8
"""Rows of unlike lengths are read up to a multiple of this, so that buffers can be used again."""


class SlotTable:
    """
    Attributes:
        slots: where each row is, in the order of joining.
        lengths: how many tokens each row has.
    """

    def __init__(self) -> None:
        self.slots: list[int] = []
        self.lengths: list[int] = []
        self._made: dict[object, Any] = {}

    def change(self, slots: Sequence[int], lengths: Sequence[int]) -> None:
        self.slots, self.lengths = list(slots), list(lengths)
        self._made = {}

    @property
    def epoch(self) -> object:
        """Another one after each change."""
        return self._made

    @property
    def span(self) -> int:
        """How many slots the model runs on."""
        return max(self.slots, default=-1) + 1

    @property
    def longest(self) -> int:
        return max(self.lengths, default=0)

    def spread(self, rows: mx.array) -> mx.array:
        """As `SlotCache.spread`."""
        if self._in_order:
            return rows
        return rows[self._once("spread", lambda: mx.array(self._by_slot(range(len(self.slots)))))]

    def gathered(self, slots: mx.array) -> mx.array:
        """As `SlotCache.gathered`."""
        if self._in_order:
            return slots
        return slots[self._once("gather", lambda: mx.array(self.slots))]

    # --- for the layers --------------------------------------------------------------------------

    @property
    def common(self) -> int | None:
        """The length of all rows, if they have one."""
        return self.lengths[0] if min(self.lengths) == max(self.lengths) else None

    def view(self, tokens: int) -> int:
        """How far the store is read by rows that get so many tokens."""
        needed = self.longest + tokens
        return needed if self.common is not None else rounded(needed, VIEW_TOKENS)

    def offsets(self, tokens: int = 0) -> mx.array:
        """Each slot's length and so many tokens more, [slots]."""

        def made() -> mx.array:
            lengths = self._by_slot(self.lengths)
            return mx.array([length + tokens for length in lengths], mx.int32)

        offsets: mx.array = self._once(("offsets", tokens), made)
        return offsets

    def places(self, tokens: int) -> tuple[mx.array, mx.array]:
        """Where so many tokens of each slot go: [slots, 1, 1], and places [slots, 1, tokens]."""

        def made() -> tuple[mx.array, mx.array]:
            slots = mx.arange(self.span)[:, None, None]
            return slots, self.offsets()[:, None, None] + mx.arange(tokens)

        places: tuple[mx.array, mx.array] = self._once(("places", tokens), made)
        return places

    def mask(self, tokens: int, window: int | None, capacity: int) -> mx.array:
        """What each slot's new tokens may look at, [slots, 1, tokens, view]."""

        def made() -> mx.array:
            mine = self.places(tokens)[1][..., None]
            theirs = mx.arange(min(capacity, self.view(tokens)))
            seen = theirs <= mine
            return seen if window is None else seen & (mine < theirs + window)

        mask: mx.array = self._once(("mask", tokens, window, capacity), made)
        return mask

    def _once(self, key: object, make: Any) -> Any:
        """What all layers share until something changes."""
        if key not in self._made:
            self._made[key] = make()
        return self._made[key]

    @property
    def _in_order(self) -> bool:
        return self.slots == list(range(len(self.slots)))

    def _by_slot(self, values: Sequence[int]) -> list[int]:
        found = [0] * self.span
        for slot, value in zip(self.slots, values, strict=True):
            found[slot] = value
        return found


def rounded(number: int, step: int) -> int:
    """Up to a multiple of `step`."""
    return -(-number // step) * step

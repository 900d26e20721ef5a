"""Keys and values of rows that decode together, in a store of slots.

Each layer has one array for all rows, [slots, heads, capacity, width]. A row owns a slot from its
joining to its leaving; its tokens stand there from the start on, without padding. A newcomer is
written into a free slot, a leaver's slot is free: nobody else's keys and values move. How long a
row is, is known on the host and in one place for all layers, so that nothing is read back and
nothing is summed up step by step. A row may get several tokens in a step and keep only some.

The model runs on all slots up to the last one that is taken. What it computes in a free one in
between is thrown away; when that has cost more than moving the last row there, it is moved.

For models whose layers all keep plain keys and values (`mlx_vlm.models.cache.KVCache`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import mlx.core as mx
from mlx_vlm.models import cache as kv

from worker.engine.cache import kv as caches
from worker.engine.cache.arrays import start
from worker.engine.cache.kv import Cache, Spans
from worker.engine.cache.slot_table import SlotTable, rounded

BLOCK_TOKENS = 256
"""The store grows by so many tokens, copying everything once."""
BLOCK_SLOTS = 8
"""Beyond so many, it grows by so many slots; below, it doubles."""
FILL_AFTER_STEPS = 8
"""A free slot among taken ones is filled from the end after so many steps."""


class SlotCache:
    """
    Attributes:
        table: which slot each row has and how long it is.
        layers: what the model takes as its cache.
    """

    def __init__(self, layers: int) -> None:
        self.table = SlotTable()
        # They know the table and not this: what a batch leaves behind goes at once, with its store.
        self.layers: Cache = [SlotLayer(self.table) for _ in range(layers)]
        self._wasted = 0

    # --- rows come and go ------------------------------------------------------------------------

    def join(self, cache: Cache, lengths: Sequence[int], *, is_batch: bool) -> None:
        """Add rows.

        Args:
            cache: of one row, which is copied for each of `lengths`, or a left-padded batch.
            lengths: how many tokens each row has.
        """
        table = self.table
        free = [slot for slot in range(self.span + len(lengths)) if slot not in table.slots]
        slots = free[: len(lengths)]
        adopts = not table.slots and len(lengths) == 1 and not is_batch
        table.change([*table.slots, *slots], [*table.lengths, *lengths])
        for layer, other in zip(self.layers, cache, strict=True):
            if other.keys is None:
                continue
            if adopts:
                layer.keys, layer.values = other.keys, other.values
                continue
            layer.reserve(table.span, table.longest, (other.keys, other.values))
            for number, (slot, length) in enumerate(zip(slots, lengths, strict=True)):
                row = number if is_batch else 0
                used = other.size()
                layer.write(slot, length, other.keys, other.values, row, used - length)

    def leave(self, keep: Sequence[int]) -> None:
        """Keep the rows with these numbers, in this order."""
        table = self.table
        table.change(
            [table.slots[number] for number in keep], [table.lengths[number] for number in keep]
        )
        if not keep:
            for layer in self.layers:
                layer.keys = layer.values = None
        elif self._is_much_too_large():
            for layer in self.layers:
                layer.resize(table.span, table.longest)

    def parts(self, number: int, spans: Spans) -> list[Cache]:
        """Copy spans of a row out, each as a cache of its own.

        The copying is begun at once: until then the copy holds the whole store, and the next step
        would have to copy it to change it.
        """
        slot = self.table.slots[number]
        row = [layer.row(slot) for layer in self.layers]
        made = caches.parts(row, spans)
        start([caches.state(part) for part in made])
        return made

    # --- a step ----------------------------------------------------------------------------------

    def advance(self, tokens: Sequence[int] | None = None) -> None:
        """The model has run: so many of the tokens that it was fed belong to each row from now on;
        None: one each."""
        table = self.table
        counts = [1] * len(table.lengths) if tokens is None else tokens
        lengths = [length + count for length, count in zip(table.lengths, counts, strict=True)]
        table.change(table.slots, lengths)
        holes = table.span - len(table.slots)
        self._wasted = self._wasted + holes if holes else 0
        if holes and self._wasted >= FILL_AFTER_STEPS * holes:
            self._fill(holes)

    @property
    def span(self) -> int:
        """How many slots the model runs on."""
        return self.table.span

    @property
    def lengths(self) -> list[int]:
        """How many tokens each row has."""
        return self.table.lengths

    def spread(self, rows: mx.array) -> mx.array:
        """Put rows, along axis 0, where their slots are; anything is in the free ones."""
        return self.table.spread(rows)

    def gathered(self, slots: mx.array) -> mx.array:
        """The rows of what the model made of all slots: the opposite of `spread`."""
        return self.table.gathered(slots)

    def trim(self, number: int, tokens: int) -> None:
        """Take back a row's last tokens."""
        lengths = list(self.table.lengths)
        lengths[number] -= tokens
        self.table.change(self.table.slots, lengths)

    def settle(self) -> list[mx.array]:
        """What would only grow if it were not computed now and then: nothing."""
        return []

    # --- room ------------------------------------------------------------------------------------

    def _fill(self, holes: int) -> None:
        """Move rows from the end into free slots, until there are none in between."""
        table = self.table
        for slot in [slot for slot in range(table.span) if slot not in table.slots][:holes]:
            last = table.span - 1
            if slot > last:
                return
            number = table.slots.index(last)
            length = table.lengths[number]
            (row,) = self.parts(number, [(0, length)])
            for layer, moved in zip(self.layers, row, strict=True):
                layer.write(slot, length, moved.keys, moved.values, 0, 0)
            table.change([slot if each == last else each for each in table.slots], table.lengths)

    def _is_much_too_large(self) -> bool:
        slots, capacity = self.layers[0].shape
        needed = self.table.span * rounded(self.table.longest + 1, BLOCK_TOKENS)
        return bool(4 * needed <= slots * capacity)


class SlotLayer:
    """One layer's store; what mlx-vlm's models see is like its own caches.

    With one row, or rows of one length, it is used exactly as their `KVCache` is.
    """

    def __init__(self, rows: SlotTable) -> None:
        self._rows = rows
        self.keys: mx.array | None = None
        self.values: mx.array | None = None
        self._written: tuple[object, int] = (None, 0)

    # --- as the models use it --------------------------------------------------------------------

    def update_and_fetch(self, keys: mx.array, values: mx.array) -> tuple[mx.array, mx.array]:
        """
        Args:
            keys: [slots, heads, tokens, width], as `values`.

        Returns:
            All keys and values up to the longest row's last, [slots, heads, view, width].
        """
        rows, tokens = self._rows, keys.shape[2]
        self.reserve(rows.span, rows.longest + tokens, (keys, values))
        assert self.keys is not None and self.values is not None
        span, common = rows.span, rows.common
        if common is not None:
            self.keys[:span, :, common : common + tokens] = keys
            self.values[:span, :, common : common + tokens] = values
        else:
            slots, places = rows.places(tokens)
            heads = mx.arange(keys.shape[1])[:, None]
            self.keys[slots, heads, places] = keys
            self.values[slots, heads, places] = values
        self._written = (rows.epoch, tokens)
        view = rows.view(tokens)
        return self.keys[:span, :, :view], self.values[:span, :, :view]

    def make_mask(
        self, tokens: int, return_array: bool = False, window_size: int | None = None
    ) -> Any:
        rows = self._rows
        if rows.common is not None:
            return kv.create_attention_mask(tokens, rows.common, return_array, window_size)
        capacity, needed = self.shape[1], rows.longest + tokens
        capacity = capacity if needed <= capacity else rounded(needed, BLOCK_TOKENS)
        return rows.mask(tokens, window_size, capacity)

    @property
    def offset(self) -> Any:
        """A number with one slot, an array [slots] with several."""
        rows, more = self._rows, self._more
        return rows.longest + more if rows.span <= 1 else rows.offsets(more)

    @property
    def _idx(self) -> int:
        """By this name mlx-vlm asks batch caches for how many columns have been filled."""
        return self._rows.longest + self._more

    @property
    def _more(self) -> int:
        """How many tokens were written since the last `advance`."""
        epoch, tokens = self._written
        return tokens if epoch is self._rows.epoch else 0

    def size(self) -> int:
        return self._idx

    def empty(self) -> bool:
        return self.keys is None

    def is_trimmable(self) -> bool:
        return True

    @property
    def nbytes(self) -> int:
        if self.keys is None or self.values is None:
            return 0
        return int(self.keys.nbytes + self.values.nbytes)

    # --- as the rows use it ----------------------------------------------------------------------

    @property
    def shape(self) -> tuple[int, int]:
        """Slots and capacity."""
        return (0, 0) if self.keys is None else (self.keys.shape[0], self.keys.shape[2])

    def reserve(self, slots: int, tokens: int, like: tuple[mx.array, mx.array]) -> None:
        """Have room for so many slots of so many tokens.

        Args:
            like: keys and values of any shape but for heads and width.
        """
        has_slots, capacity = self.shape
        if slots <= has_slots and tokens <= capacity:
            return
        if slots > has_slots:
            slots = max(slots, min(2 * has_slots, rounded(slots, BLOCK_SLOTS)))
        if tokens > capacity:
            capacity = rounded(tokens, BLOCK_TOKENS)
        slots = max(slots, has_slots)
        self.keys = _grown(self.keys, slots, capacity, like[0])
        self.values = _grown(self.values, slots, capacity, like[1])

    def resize(self, slots: int, tokens: int) -> None:
        """Give back what is beyond so many slots and tokens."""
        if self.keys is None or self.values is None:
            return
        tokens = min(self.shape[1], rounded(tokens + 1, BLOCK_TOKENS))
        self.keys = mx.contiguous(self.keys[:slots, :, :tokens])
        self.values = mx.contiguous(self.values[:slots, :, :tokens])
        start([self.keys, self.values])

    def write(
        self, slot: int, length: int, keys: mx.array, values: mx.array, row: int, begin: int
    ) -> None:
        """Fill a slot with so many tokens of a row of others, from its place `begin` on."""
        assert self.keys is not None and self.values is not None
        end = begin + length
        self.keys[slot : slot + 1, :, :length] = keys[row : row + 1, :, begin:end]
        self.values[slot : slot + 1, :, :length] = values[row : row + 1, :, begin:end]

    def row(self, slot: int) -> kv.KVCache:
        """What is in a slot, to be copied."""
        row = kv.KVCache()
        if self.keys is not None and self.values is not None:
            row.keys, row.values = self.keys[slot : slot + 1], self.values[slot : slot + 1]
        return row


def _grown(store: mx.array | None, slots: int, capacity: int, like: mx.array) -> mx.array:
    grown = mx.zeros((slots, like.shape[1], capacity, like.shape[3]), like.dtype)
    if store is not None:
        grown[: store.shape[0], :, : store.shape[2]] = store
    return grown

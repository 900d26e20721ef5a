"""Key-value caches: of one row while it is prefilled, of a batch while it decodes.

A cache is a list with one entry a layer, as mlx-vlm's models make it. Row caches carry a batch
axis of 1; batch caches know each row's left padding. Everything here works on whole lists.
"""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Iterator, Sequence
from typing import Any

import mlx.core as mx
from mlx_vlm.models import cache as kv

from worker.engine.cache.arrays import start

Cache = list[Any]
Spans = Sequence[tuple[int, int]]
"""Tokens of a row from, and up to, one span after the other."""


def merged(rows: Sequence[Cache]) -> Cache:
    """Copy row caches into one batch cache; the rows stay as they are."""
    return [type(layers[0]).merge(list(layers)) for layers in zip(*rows, strict=True)]


def extend(batch: Cache, other: Cache) -> None:
    """Append the rows of another batch cache in place."""
    for layer, more in zip(batch, other, strict=True):
        both = type(layer) is kv.BatchKVCache and type(more) is kv.BatchKVCache
        if both and not layer.empty() and not more.empty():
            _extend_with_room(layer, more)
        else:
            layer.extend(more)


def _extend_with_room(layer: Any, more: Any) -> None:
    """Append rows and leave room for the next tokens.

    The cache's own `extend` leaves none, so that its next token copies everything once more:
    running streams would wait twice.
    """
    length = max(layer.size(), more.size())
    capacity = (length // layer.step + 1) * layer.step

    pairs = [(layer, layer.size()), (more, more.size())]
    layer.keys, layer.values = (
        _right_aligned([(cache.keys, used) for cache, used in pairs], length, capacity),
        _right_aligned([(cache.values, used) for cache, used in pairs], length, capacity),
    )
    layer.left_padding = mx.concatenate(
        [cache.left_padding + (length - used) for cache, used in pairs]
    )
    layer.offset = mx.concatenate([layer.offset, more.offset])
    layer._idx = length  # noqa: SLF001 - mlx-lm names no other way


def _right_aligned(parts: Sequence[tuple[mx.array, int]], length: int, capacity: int) -> mx.array:
    """Copy the used columns of [rows, heads, columns, width] parts so that all end at `length`."""
    first = parts[0][0]
    rows = sum(part.shape[0] for part, _ in parts)
    joined = mx.zeros((rows, first.shape[1], capacity, first.shape[3]), first.dtype)
    start = 0
    for part, used in parts:
        stop = start + part.shape[0]
        joined[start:stop, :, length - used : length] = part[..., :used, :]
        start = stop
    return joined


def keep_rows(batch: Cache, indices: Sequence[int]) -> None:
    chosen = mx.array(list(indices), mx.int32)
    for layer in batch:
        layer.filter(chosen)


def row_parts(batch: Cache, index: int, spans: Spans) -> list[Cache]:
    """Copy spans of a row out of a left-padded batch cache, each as a cache of its own.

    The copying is begun at once: until then the copies hold the whole batch's arrays, and the next
    step would have to copy them to change them.

    Args:
        spans: the last one ends with the row.
    """
    length = spans[-1][1]
    parts = [[_row_part(layer, index, length, span) for layer in batch] for span in spans]
    start([state(part) for part in parts])
    return parts


def _row_part(layer: Any, index: int, length: int, span: tuple[int, int]) -> Any:
    if type(layer) is not kv.BatchKVCache:
        return layer.extract(index)
    padding = layer.size() - length
    row = layer.keys[index : index + 1], layer.values[index : index + 1]
    return _plain(*row, span[0] + padding, span[1] + padding)


def parts(row: Cache, spans: Spans) -> list[Cache]:
    """Copy spans of a row of plain keys and values, each as a cache of its own, lazily."""
    return [[_plain(layer.keys, layer.values, *span) for layer in row] for span in spans]


def joined(parts: Sequence[Cache], length: int, capacity: int) -> Cache:
    """Copy the first tokens of parts that follow on one another into one row, lazily.

    Args:
        capacity: for how many tokens the row has room; of a single part more than `length`, since
            no two caches may hold the same array.
    """
    return [_joined(layers, length, capacity) for layers in zip(*parts, strict=True)]


def _joined(layers: Sequence[Any], length: int, capacity: int) -> kv.KVCache:
    row = kv.KVCache()
    row.keys = _in_a_row([layer.keys for layer in layers], length, capacity)
    row.values = _in_a_row([layer.values for layer in layers], length, capacity)
    row.offset = length
    return row


def _in_a_row(parts: Sequence[mx.array], length: int, capacity: int) -> mx.array:
    """[1, heads, tokens, width] each, to as many tokens as `capacity` says."""
    taken, left = [], length
    for part in parts:
        taken.append(part if part.shape[2] <= left else part[:, :, :left])
        left -= taken[-1].shape[2]
    _, heads, _, width = parts[0].shape
    if capacity > length:
        taken.append(mx.zeros((1, heads, capacity - length, width), parts[0].dtype))
    return mx.concatenate(taken, axis=2)


@contextlib.contextmanager
def room_for(row: Cache, tokens: int) -> Iterator[None]:
    """What is written meanwhile into empty layers of plain keys and values gets room for so many
    tokens. By themselves they grow by 256, and copy everything each time."""
    empty = [layer for layer in row if type(layer) is kv.KVCache and layer.empty()]
    for layer in empty:
        layer.step *= tokens // layer.step + 1
    try:
        yield
    finally:
        for layer in empty:
            del layer.step  # the instance's; its class has it still


def is_plain(row: Cache) -> bool:
    """Whether all layers keep plain keys and values."""
    return all(type(layer) is kv.KVCache for layer in row)


def can_trim(row: Cache) -> bool:
    return all(layer.is_trimmable() for layer in row)


def trim(row: Cache, tokens: int) -> None:
    for layer in row:
        layer.trim(tokens)
        if type(layer) is kv.RotatingKVCache and layer.keys.shape[2] > layer.max_size:
            # It has just taken more than its window in one piece, all in their order: it would
            # keep the last ones of its array, also those that were taken back.
            layer.keys = layer.keys[..., : layer._idx, :]  # noqa: SLF001
            layer.values = layer.values[..., : layer._idx, :]  # noqa: SLF001


def snapshot(row: Cache) -> Cache:
    """Return a cache that later changes of `row` do not touch, evaluated."""
    twin = [_copied(layer) for layer in row]
    materialize(twin)
    return twin


def snapshots(row: Cache, spans: Spans) -> list[Cache]:
    """Copies of spans of a row, evaluated; kinds that cannot be cut only as a whole."""
    made = parts(row, spans) if is_plain(row) else [snapshot(row)]
    mx.eval([state(part) for part in made])
    return made


def restored(stored: Cache, tokens: int, length: int) -> Cache:
    """Return a fresh row cache of the first `length` of a snapshot's `tokens`."""
    row = [_copied(layer) for layer in stored]
    if length < tokens:
        trim(row, tokens - length)
        row = [_copied(layer) for layer in row]
    return row


def state(cache: Cache) -> list[Any]:
    """All arrays of a cache, nested."""
    return [layer.state for layer in cache]


def held(cache: Cache) -> list[mx.array]:
    """The arrays that the layers hold themselves, as they are: nothing is cut out or copied."""
    return [array for layer in cache for array in _arrays_in(layer)]


def _arrays_in(value: Any) -> list[mx.array]:
    if isinstance(value, mx.array):
        return [value]
    if isinstance(value, list | tuple):
        return [array for one in value for array in _arrays_in(one)]
    return _arrays_in(list(vars(value).values())) if hasattr(value, "__dict__") else []


def materialize(cache: Cache) -> None:
    """Compute what is still lazy, so that no step inherits the work of another."""
    mx.eval(state(cache))


def heads(cache: Cache) -> int:
    """Of the first layer that holds keys [rows, heads, tokens, width]; 0 if none does."""
    kinds = (kv.KVCache, kv.RotatingKVCache)
    held_keys = (layer.keys for layer in cache if isinstance(layer, kinds))
    return next((int(keys.shape[1]) for keys in held_keys if keys is not None), 0)


def size_bytes(cache: Cache) -> int:
    return sum(int(layer.nbytes) for layer in cache)


def left_padded(row: Cache, padding: Sequence[int]) -> Cache | None:
    """Turn an empty row cache into an empty batch cache for left-padded prompts.

    Returns:
        None if a layer's kind cannot start out padded.
    """
    layers = [_left_padded_layer(layer, list(padding)) for layer in row]
    return None if any(layer is None for layer in layers) else layers


def _left_padded_layer(layer: Any, padding: list[int]) -> Any:
    if type(layer) is kv.KVCache:
        return kv.BatchKVCache(padding)
    if type(layer) is kv.RotatingKVCache and not layer.keep:
        return kv.BatchRotatingKVCache(layer.max_size, padding)
    return None


def _copied(layer: Any) -> Any:
    """Copy a layer so that neither sees the other's writes.

    Assigning to a slice of an MLX array changes the array object, so two caches must never hold
    the same object.
    """
    if type(layer) is kv.KVCache:
        return _plain(layer.keys, layer.values, 0, layer.offset)
    return copy.deepcopy(layer)


def _plain(keys: mx.array | None, values: mx.array | None, begin: int, stop: int) -> kv.KVCache:
    """Copy tokens of a row's [1, heads, tokens, width]."""
    row = kv.KVCache()
    if keys is not None and values is not None:
        row.keys = mx.contiguous(keys[:, :, begin:stop])
        row.values = mx.contiguous(values[:, :, begin:stop])
        row.offset = stop - begin
    return row

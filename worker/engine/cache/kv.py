"""Key-value caches: of one row while it is prefilled, of a batch while it decodes.

A cache is a list with one entry a layer, as mlx-vlm's models make it. Row caches carry a batch
axis of 1; batch caches know each row's left padding. Everything here works on whole lists.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import mlx.core as mx
from mlx_vlm.models import cache as kv

from worker.engine.cache.arrays import start

Cache = list[Any]


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


def extracted(batch: Cache, index: int) -> Cache:
    """Copy one row out of a batch cache.

    The copying is begun at once: until then the copy holds the whole batch's arrays, and the next
    step would have to copy them to change them.
    """
    row = [layer.extract(index) for layer in batch]
    start(state(row))
    return row


def row_of(batch: Cache, index: int, length: int) -> Cache:
    """Copy a row of so many tokens out of a left-padded batch cache; begun at once, as above."""
    row = [_row_of(layer, index, length) for layer in batch]
    start(state(row))
    return row


def _row_of(layer: Any, index: int, length: int) -> Any:
    if type(layer) is not kv.BatchKVCache:
        return layer.extract(index)
    row, end = kv.KVCache(), layer.size()
    row.keys = mx.contiguous(layer.keys[index : index + 1, :, end - length : end])
    row.values = mx.contiguous(layer.values[index : index + 1, :, end - length : end])
    row.offset = length
    return row


def can_trim(row: Cache) -> bool:
    return all(layer.is_trimmable() for layer in row)


def trim(row: Cache, tokens: int) -> None:
    for layer in row:
        layer.trim(tokens)


def snapshot(row: Cache) -> Cache:
    """Return a cache that later changes of `row` do not touch, evaluated."""
    twin = [_copied(layer) for layer in row]
    materialize(twin)
    return twin


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
        twin = kv.KVCache()
        if layer.keys is not None:
            twin.keys = mx.contiguous(layer.keys[..., : layer.offset, :])
            twin.values = mx.contiguous(layer.values[..., : layer.offset, :])
            twin.offset = layer.offset
        return twin
    return copy.deepcopy(layer)

"""What a row's cache takes, by what each layer really keeps."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from mlx_vlm.models import cache as kv

from worker.engine.cache.kv import Cache


@dataclass(frozen=True)
class LayerBytes:
    """
    Attributes:
        a_token: bytes, for up to `most_tokens` of them; None: for all.
        fixed: bytes whatever the row's length, as recurrent states have.
    """

    a_token: float = 0.0
    most_tokens: int | None = None
    fixed: int = 0

    def of(self, tokens: int) -> float:
        kept = tokens if self.most_tokens is None else min(tokens, self.most_tokens)
        return self.fixed + self.a_token * kept


@dataclass(frozen=True)
class Footprint:
    layers: tuple[LayerBytes, ...]

    @classmethod
    def measured(cls, cache: Cache, tokens: int) -> Footprint:
        """Of a row's cache that holds so many tokens."""
        return cls(tuple(_layer_bytes(layer, tokens) for layer in _parts(cache)))

    def __add__(self, other: Footprint) -> Footprint:
        """Of a row that both models keep."""
        return Footprint(self.layers + other.layers)

    def row_bytes(self, tokens: int) -> int:
        """What a row of so many tokens takes."""
        return int(sum(layer.of(tokens) for layer in self.layers))

    @property
    def bytes_per_token(self) -> float:
        """What another token takes, in a short row."""
        return sum(layer.a_token for layer in self.layers)


def _parts(cache: Cache) -> Iterator[Any]:
    for layer in cache:
        if isinstance(layer, kv.CacheList):
            yield from _parts(list(layer.caches))
        else:
            yield layer


def _layer_bytes(layer: Any, tokens: int) -> LayerBytes:
    size = int(layer.nbytes)
    if isinstance(layer, kv.ArraysCache):
        return LayerBytes(fixed=size)
    keys: Any = getattr(layer, "keys", None)
    capacity = keys.shape[2] if hasattr(keys, "shape") else tokens
    window = getattr(layer, "max_size", None) or getattr(layer, "chunk_size", None)
    return LayerBytes(a_token=size / max(1, capacity), most_tokens=window)

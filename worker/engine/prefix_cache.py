"""Key-value caches of prompts and answers seen before.

A prompt's key is its tokens, each image's placeholders replaced by numbers made of its hash: the
same words with another picture differ from that picture on. Entries of another tenant (salt) are
never looked at. A cache that can be cut is of use for every prompt that starts like it; another
kind (sliding windows, recurrent states) only for prompts that go on where it ends.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from worker.engine import caches
from worker.engine.caches import Cache

Key = npt.NDArray[np.int64]

LEAST_TOKENS = 16
"""Shorter prefixes cost less to compute than to keep."""


@dataclass(frozen=True)
class Entry:
    salt: str
    key: Key
    cache: Cache
    bytes: int
    trimmable: bool


@dataclass(frozen=True)
class Hit:
    cache: Cache
    length: int


class PrefixCache:
    """Least recently used entries are forgotten first.

    Args:
        limit_bytes: most memory to keep; 0 keeps nothing.
    """

    def __init__(self, limit_bytes: int) -> None:
        self.limit_bytes = limit_bytes
        self.bytes = 0
        self.hits = 0
        self.misses = 0
        self._entries: OrderedDict[int, Entry] = OrderedDict()
        self._next = 0

    def __len__(self) -> int:
        return len(self._entries)

    def find(self, key: Key, salt: str) -> Hit | None:
        """Return a cache of the longest known start of `key`, for the caller to go on with.

        At least the last token is always left to compute: its logits are not kept.
        """
        best, best_length = -1, LEAST_TOKENS - 1
        for number, entry in self._entries.items():
            if entry.salt == salt:
                length = _usable(entry, key[:-1])
                if length > best_length:
                    best, best_length = number, length
        if best < 0:
            self.misses += 1
            return None
        self.hits += 1
        self._entries.move_to_end(best)
        entry = self._entries[best]
        return Hit(caches.restored(entry.cache, len(entry.key), best_length), best_length)

    def put(self, key: Key, salt: str, cache: Cache) -> None:
        """Keep a snapshot: `cache` must hold exactly the tokens of `key` and never change."""
        size = caches.size_bytes(cache)
        if len(key) < LEAST_TOKENS or size > self.limit_bytes:
            return
        trimmable = caches.can_trim(cache)
        for number, entry in list(self._entries.items()):
            if entry.salt != salt:
                continue
            common = common_length(entry.key, key)
            if common == len(entry.key) and (trimmable or len(key) == common):
                self._drop(number)  # the new entry does all that this one could
            elif entry.trimmable and common == len(key):
                self._entries.move_to_end(number)
                return
        self._entries[self._next] = Entry(salt, key, cache, size, trimmable)
        self._next += 1
        self.bytes += size
        self._shrink(self.limit_bytes)

    def clear(self) -> None:
        """Forget everything, what was counted too."""
        self._shrink(0)
        self.hits = self.misses = 0

    def _shrink(self, limit_bytes: int) -> None:
        while self.bytes > limit_bytes:
            self._drop(next(iter(self._entries)))

    def _drop(self, number: int) -> None:
        self.bytes -= self._entries.pop(number).bytes


def common_length(one: Key, other: Key) -> int:
    """How many numbers two keys share from their start."""
    shorter = min(len(one), len(other))
    differing = np.flatnonzero(one[:shorter] != other[:shorter])
    return int(differing[0]) if differing.size else shorter


def _usable(entry: Entry, key: Key) -> int:
    length = common_length(entry.key, key)
    return length if entry.trimmable or length == len(entry.key) else 0

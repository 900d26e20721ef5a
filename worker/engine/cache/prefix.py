"""Key-value caches of prompts and answers seen before.

A prompt's key is its tokens, each image's placeholders replaced by numbers made of its hash: the
same words with another picture differ from that picture on. Entries of another tenant (salt) are
never looked at. A cache that can be cut is of use for every prompt that starts like it; another
kind (sliding windows, recurrent states) only for prompts that go on where it ends.

Entries are found by the hashes of their first block of tokens, their first two blocks and so on,
each hash continuing the one before: looking up a prompt takes as many steps as it has blocks,
however many entries there are.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from worker.engine.cache import kv as caches
from worker.engine.cache.kv import Cache

Key = npt.NDArray[np.int64]

BLOCK_TOKENS = 16
"""Also the shortest prefix that is kept: less costs less to compute than to keep."""
MOST_COMPARED = 16
"""Of many entries that share as many blocks with a prompt, so many are compared to the token."""


@dataclass(frozen=True, eq=False)
class Entry:
    """`hashes[i]` stands for the first `i + 1` blocks of the key, and for the salt."""

    key: Key
    hashes: list[bytes]
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
        self._entries: OrderedDict[Entry, None] = OrderedDict()
        self._sharing: defaultdict[bytes, OrderedDict[Entry, None]] = defaultdict(OrderedDict)

    def __len__(self) -> int:
        return len(self._entries)

    def known(self, key: Key, salt: str) -> int:
        """How many of the first tokens of `key` a cache is there for, as `find` would find it."""
        return self._longest(key[:-1], salt)[1]

    def find(self, key: Key, salt: str) -> Hit | None:
        """Return a cache of the longest known start of `key`, for the caller to go on with.

        At least the last token is always left to compute: its logits are not kept.
        """
        entry, length = self._longest(key[:-1], salt)
        if entry is None:
            self.misses += 1
            return None
        self.hits += 1
        self._entries.move_to_end(entry)
        return Hit(caches.restored(entry.cache, len(entry.key), length), length)

    def put(self, key: Key, salt: str, cache: Cache) -> None:
        """Keep a snapshot: `cache` must hold exactly the tokens of `key` and never change."""
        size = caches.size_bytes(cache)
        hashes = _hashes(key, salt)
        if not hashes or size > self.limit_bytes:
            return
        new = Entry(key, hashes, cache, size, caches.can_trim(cache))
        for other in _newest(self._sharing.get(hashes[-1], ())):
            if other.trimmable and common_length(other.key, key) == len(key):
                self._entries.move_to_end(other)  # it does all that the new one could
                return
        self._drop_outdone(new)
        self._entries[new] = None
        for digest in hashes:
            self._sharing[digest][new] = None
        self.bytes += size
        self._shrink(self.limit_bytes)

    def give_back(self, wanted_bytes: int) -> None:
        """Forget what was of no use for longest, at least so much."""
        self._shrink(max(0, self.bytes - wanted_bytes))

    def clear(self) -> None:
        """Forget everything, what was counted too."""
        self._shrink(0)
        self.hits = self.misses = 0

    def _longest(self, key: Key, salt: str) -> tuple[Entry | None, int]:
        """The entry of most use, and how many of its tokens are of use."""
        for digest in reversed(_hashes(key, salt)):
            best, best_length = None, 0
            for entry in _newest(self._sharing.get(digest, ())):
                length = _usable(entry, key)
                if length > best_length:
                    best, best_length = entry, length
            if best is not None:
                return best, best_length
        return None, 0

    def _drop_outdone(self, new: Entry) -> None:
        """Forget the entries that the new one begins with, if it can be cut to their length."""
        for count, digest in enumerate(new.hashes, start=1):
            for other in _newest(self._sharing.get(digest, ())):
                ends_here = len(other.hashes) == count
                outdone = new.trimmable or len(other.key) == len(new.key)
                if ends_here and outdone and _usable(other, new.key) == len(other.key):
                    self._drop(other)

    def _shrink(self, limit_bytes: int) -> None:
        while self.bytes > limit_bytes:
            self._drop(next(iter(self._entries)))

    def _drop(self, entry: Entry) -> None:
        del self._entries[entry]
        self.bytes -= entry.bytes
        for digest in entry.hashes:
            sharing = self._sharing[digest]
            del sharing[entry]
            if not sharing:
                del self._sharing[digest]


def common_length(one: Key, other: Key) -> int:
    """How many numbers two keys share from their start."""
    shorter = min(len(one), len(other))
    differing = np.flatnonzero(one[:shorter] != other[:shorter])
    return int(differing[0]) if differing.size else shorter


def _usable(entry: Entry, key: Key) -> int:
    length = common_length(entry.key, key)
    return length if entry.trimmable or length == len(entry.key) else 0


def _hashes(key: Key, salt: str) -> list[bytes]:
    """The running hash at the end of each full block."""
    running = hashlib.blake2b(salt.encode(), digest_size=16)
    found = []
    for stop in range(BLOCK_TOKENS, len(key) + 1, BLOCK_TOKENS):
        running.update(key[stop - BLOCK_TOKENS : stop].tobytes())
        found.append(running.digest())
    return found


def _newest(entries: Iterable[Entry]) -> list[Entry]:
    """The entries that came last, copied so that they can be dropped meanwhile."""
    return list(entries)[-MOST_COMPARED:]

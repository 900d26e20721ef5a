"""Whole caches of prompts seen before, of kinds that may not be cut: sliding windows, states.

A cache that can be cut is of use for every prompt that starts like it; another only for prompts
that go on where it ends.

Entries are found by the hashes of their first block of tokens, their first two blocks and so on,
each hash continuing the one before: looking up a prompt takes as many steps as it has blocks,
however many entries there are.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

from worker.engine.cache import kv as caches
from worker.engine.cache.keys import LEAST_TOKENS, Copied, Hit, Key, common_length
from worker.engine.cache.kv import Cache

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

    def made(self, length: int) -> Cache:
        """A row's cache of its first tokens."""
        return caches.restored(self.cache, len(self.key), length)


class Snapshots:
    """
    Attributes:
        bytes: of all entries.
    """

    def __init__(self) -> None:
        self.bytes = 0
        self._entries: OrderedDict[Entry, None] = OrderedDict()
        self._sharing: defaultdict[bytes, OrderedDict[Entry, None]] = defaultdict(OrderedDict)

    def __len__(self) -> int:
        return len(self._entries)

    def new_tokens(self, key: Key, salt: str) -> int:
        """How many tokens `put` would copy: all or none."""
        entry, length = self._longest(key, salt)
        return 0 if entry is not None and length == len(key) else len(key)

    def known(self, key: Key, salt: str) -> int:
        """How many of its first tokens `find` would find."""
        return self._longest(key, salt)[1]

    def find(self, key: Key, salt: str) -> Hit | None:
        entry, length = self._longest(key, salt)
        if entry is None:
            return None
        self._entries.move_to_end(entry)
        return Hit(length, lambda room: entry.made(length))

    def put(self, key: Key, salt: str, copied: Copied, limit_bytes: int) -> None:
        """
        Args:
            limit_bytes: a prompt that takes more is not kept.
        """
        hashes = _hashes(key, salt)
        for other in _newest(self._sharing.get(hashes[-1], ())):
            if other.trimmable and common_length(other.key, key) == len(key):
                self._entries.move_to_end(other)  # it does all that the new one could
                return
        (cache,) = copied([(0, len(key))])
        new = Entry(key, hashes, cache, caches.size_bytes(cache), caches.can_trim(cache))
        if new.bytes > limit_bytes:
            return
        self._drop_outdone(new)
        self._entries[new] = None
        for digest in hashes:
            self._sharing[digest][new] = None
        self.bytes += new.bytes

    def shrink(self, limit_bytes: int) -> None:
        """Forget entries until no more is left."""
        while self.bytes > limit_bytes:
            self._drop(next(iter(self._entries)))

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

    def _drop(self, entry: Entry) -> None:
        del self._entries[entry]
        self.bytes -= entry.bytes
        for digest in entry.hashes:
            sharing = self._sharing[digest]
            del sharing[entry]
            if not sharing:
                del self._sharing[digest]


def _usable(entry: Entry, key: Key) -> int:
    length = common_length(entry.key, key)
    return length if entry.trimmable or length == len(entry.key) else 0


def _hashes(key: Key, salt: str) -> list[bytes]:
    """The running hash at the end of each full block."""
    running = hashlib.blake2b(salt.encode(), digest_size=16)
    found = []
    for stop in range(LEAST_TOKENS, len(key) + 1, LEAST_TOKENS):
        running.update(key[stop - LEAST_TOKENS : stop].tobytes())
        found.append(running.digest())
    return found


def _newest(entries: Iterable[Entry]) -> list[Entry]:
    """The entries that came last, copied so that they can be dropped meanwhile."""
    return list(entries)[-MOST_COMPARED:]

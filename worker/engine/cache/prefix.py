"""Key-value caches of prompts and answers seen before.

A prompt's key is its tokens, each image's placeholders replaced by numbers made of its hash: the
same words with another picture differ from that picture on. What another tenant (salt) has left
is never looked at.
"""

from __future__ import annotations

from worker.engine.cache.keys import LEAST_TOKENS, Copied, Hit, Key
from worker.engine.cache.radix_tree import RadixTree
from worker.engine.cache.snapshots import Snapshots


class PrefixCache:
    """What was of no use for longest is forgotten first.

    Args:
        limit_bytes: most memory to keep; 0 keeps nothing.
        plain: whether all layers keep plain keys and values, so that they can be cut anywhere, and
            prompts share what they have in common.
    """

    def __init__(self, limit_bytes: int, *, plain: bool) -> None:
        self.limit_bytes = limit_bytes
        self.hits = 0
        self.misses = 0
        self.store: RadixTree | Snapshots = RadixTree() if plain else Snapshots()

    @property
    def bytes(self) -> int:
        return self.store.bytes

    def known(self, key: Key, salt: str) -> int:
        """How many of its first tokens are there, of a prompt that has one more."""
        return self.store.known(key, salt)

    def new_tokens(self, key: Key, salt: str) -> int:
        """How many of its tokens `put` would copy."""
        return self.store.new_tokens(key, salt) if self._takes(key) else 0

    def find(self, key: Key, salt: str) -> Hit | None:
        """Return the longest known start of `key`.

        At least the last token is always left to compute: its logits are not kept.
        """
        hit = self.store.find(key[:-1], salt)
        if hit is None:
            self.misses += 1
        else:
            self.hits += 1
        return hit

    def put(self, key: Key, salt: str, copied: Copied) -> None:
        """Keep what is new of a row that holds exactly the tokens of `key`.

        Args:
            copied: is asked for that, if anything is.
        """
        if self._takes(key):
            self.store.put(key, salt, copied, self.limit_bytes)
            self.store.shrink(self.limit_bytes)

    def give_back(self, wanted_bytes: int) -> None:
        """Forget what was of no use for longest, at least so much."""
        self.store.shrink(max(0, self.bytes - wanted_bytes))

    def clear(self) -> None:
        """Forget everything, what was counted too."""
        self.store.shrink(0)
        self.hits = self.misses = 0

    def gauges(self) -> dict[str, float]:
        return {
            "prefix_cache_hits": float(self.hits),
            "prefix_cache_misses": float(self.misses),
            "prefix_cache_bytes": float(self.bytes),
        }

    def _takes(self, key: Key) -> bool:
        return bool(self.limit_bytes) and len(key) >= LEAST_TOKENS

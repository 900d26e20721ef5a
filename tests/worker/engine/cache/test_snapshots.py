"""Whole caches, found by the hashes of their keys' blocks."""

from __future__ import annotations

from unittest import mock

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.properties import examples
from worker.engine.cache.keys import common_length
from worker.engine.cache.prefix import PrefixCache
from worker.engine.cache.snapshots import Snapshots


class Layer:
    """As much of a layer's cache as the prefix cache looks at."""

    nbytes = 100

    def __init__(self, *, trimmable: bool) -> None:
        self._trimmable = trimmable
        self.trimmed = 0

    def is_trimmable(self) -> bool:
        return self._trimmable

    def trim(self, tokens: int) -> None:
        self.trimmed += tokens

    @property
    def state(self) -> list[object]:
        return []


@given(
    keys=st.lists(
        st.lists(st.integers(0, 1), min_size=1, max_size=4).map(
            lambda blocks: [block for block in blocks for _ in range(11)]
        ),
        min_size=1,
        max_size=8,
    ),
    trimmable=st.booleans(),
)
@settings(max_examples=examples(300), deadline=None)
def test_what_is_found_is_as_long_as_a_search_of_all_entries_would_find(
    keys: list[list[int]], trimmable: bool
) -> None:
    cache = PrefixCache(10_000, plain=False)
    kept: list[list[int]] = []
    for numbers in keys:
        key = np.array(numbers, np.int64)
        lengths = [_shared(other, numbers[:-1], trimmable) for other in kept if len(other) >= 16]
        expected = max((n for n in lengths if n >= 16), default=0)
        hit = cache.find(key, "salt")
        assert (hit.length if hit else 0) == expected
        assert cache.find(key, "other salt") is None
        cache.put(key, "salt", lambda spans: [[Layer(trimmable=trimmable)]])
        kept.append(numbers)
        assert cache.bytes == 100 * len(cache.store)
    cache.clear()
    assert vars(cache.store) == vars(Snapshots())  # nothing is left, of indices too


def _shared(other: list[int], key: list[int], trimmable: bool) -> int:
    length = common_length(np.array(other), np.array(key))
    return length if trimmable or length == len(other) else 0


def test_many_entries_do_not_slow_the_search() -> None:
    """Counted in comparisons, not in time."""
    cache = PrefixCache(1 << 30, plain=False)
    system = list(range(64))
    for number in range(500):
        key = np.array([*system, *([1000 + number] * 32)], np.int64)
        cache.put(key, "", lambda spans: [[Layer(trimmable=True)]])
    with mock.patch("worker.engine.cache.snapshots.common_length", wraps=common_length) as compared:
        hit = cache.find(np.array([*system, *([1007] * 32), 5], np.int64), "")
    assert hit is not None and hit.length == 96
    assert compared.call_count <= 16

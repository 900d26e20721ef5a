"""Prompts that share what they begin with."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import mlx.core as mx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mlx_vlm.models import cache as kv

from tests.properties import examples
from worker.engine.cache import kv as caches
from worker.engine.cache import radix_tree
from worker.engine.cache.keys import common_length
from worker.engine.cache.kv import Cache, Spans
from worker.engine.cache.prefix import PrefixCache
from worker.engine.cache.radix_tree import RadixTree

LAYERS = 2
TOKEN_BYTES = LAYERS * 2 * 2 * 4
"""Of a token: two layers' keys and values, two numbers each."""
PLENTY = 1 << 30


def row(tokens: list[int]) -> Cache:
    """Each token's keys and values are the token itself and its place, in a row with room."""
    layers = []
    for number in range(LAYERS):
        layer = kv.KVCache()
        told = mx.array([[[[token + number, place] for place, token in enumerate(tokens)]]])
        layer.update_and_fetch(told.astype(mx.float32), -told.astype(mx.float32))
        layers.append(layer)
    return layers


def tokens_of(cache: Cache) -> list[int]:
    """Checks that all of a row is its own, and returns its tokens."""
    found = []
    for number, layer in enumerate(cache):
        keys, values = (np.array(array[0, 0]) for array in layer.state)
        assert np.array_equal(values, -keys) and np.array_equal(keys[:, 1], np.arange(len(keys)))
        found.append([int(token) - number for token in keys[:, 0]])
    assert found[0] == found[1]
    return found[0]


class Prompts:
    """A cache, and what was copied into it."""

    def __init__(self, limit_bytes: int = PLENTY) -> None:
        self.cache = PrefixCache(limit_bytes, plain=True)
        self.copied = 0

    @property
    def tree(self) -> RadixTree:
        assert isinstance(self.cache.store, RadixTree)
        return self.cache.store

    def put(self, tokens: list[int], salt: str = "") -> None:
        def copied(spans: Spans) -> list[Cache]:
            assert spans[-1][1] == len(tokens)
            self.copied += sum(stop - begin for begin, stop in spans)
            return caches.snapshots(row(tokens), spans)

        self.cache.put(np.array(tokens, np.int64), salt, copied)

    def find(self, tokens: list[int], salt: str = "") -> int:
        """How many of them are found; they are what was put."""
        key = np.array([*tokens, -1], np.int64)
        known = self.cache.known(key[:-1], salt)
        hit = self.cache.find(key, salt)
        if hit is None:
            assert known == 0
            return 0
        assert hit.length == known
        assert tokens_of(hit.cache(3)) == tokens[: hit.length]
        return hit.length


@contextlib.contextmanager
def small_nodes() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(radix_tree, "NODE_TOKENS", 6)
        patch.setattr(radix_tree, "LEAST_TOKENS", 3)
        yield


PROMPTS = st.lists(st.lists(st.integers(0, 1), min_size=16, max_size=30), min_size=1, max_size=8)


@given(prompts=PROMPTS, asked=PROMPTS)
@settings(max_examples=examples(40), deadline=None)
@small_nodes()
def test_what_is_common_is_there_once_and_all_of_it_is_found(
    prompts: list[list[int]], asked: list[list[int]]
) -> None:
    made = Prompts()
    for tokens in prompts:
        made.put(tokens)
    different = {tuple(tokens[:end]) for tokens in prompts for end in range(1, len(tokens) + 1)}
    assert made.cache.bytes == TOKEN_BYTES * len(different)
    assert made.copied == len(different)
    for tokens in [*prompts, *asked]:
        length = max(_common(tokens, other) for other in prompts)
        assert made.find(tokens) == (length if length >= 3 else 0)
        assert made.find(tokens, "another") == 0
    made.cache.clear()
    assert made.cache.bytes == len(made.tree) == 0
    assert all(made.find(tokens) == 0 for tokens in prompts)


@given(prompts=PROMPTS, limit=st.integers(1, 60))
@settings(max_examples=examples(40), deadline=None)
@small_nodes()
def test_within_any_limit_what_is_found_is_right(prompts: list[list[int]], limit: int) -> None:
    made = Prompts(limit * TOKEN_BYTES)
    for number, tokens in enumerate(prompts):
        made.put(tokens)
        assert made.cache.bytes <= limit * TOKEN_BYTES
        assert (made.find(tokens) == len(tokens)) == (len(tokens) <= limit)
        made.find(prompts[number // 2])
    made.cache.give_back(made.cache.bytes // 2)
    for tokens in prompts:
        made.find(tokens)


def _common(one: list[int], other: list[int]) -> int:
    return common_length(np.array(one), np.array(other))


def test_who_is_not_used_is_forgotten_first_and_what_others_begin_with_last() -> None:
    system, limit = list(range(100)), 190
    made = Prompts(limit * TOKEN_BYTES)
    turns = [[*system, *range(1000 * n, 1000 * n + 30)] for n in range(1, 4)]
    for tokens in turns:
        made.put(tokens)
    assert made.cache.bytes == limit * TOKEN_BYTES
    assert made.find(turns[0]) == 130
    made.put([*system, *range(9000, 9030)])
    assert [made.find(tokens) for tokens in turns] == [130, 100, 130]


def test_a_row_in_use_stays_as_it_is_whatever_becomes_of_the_prompt() -> None:
    made, tokens = Prompts(), list(range(40))
    made.put(tokens)
    hit = made.cache.find(np.array([*tokens, 1], np.int64), "")
    assert hit is not None
    made.put([*tokens[:20], *range(900, 930)])
    made.cache.clear()
    first = hit.cache(0)
    for layer in first:
        one = mx.ones((1, 1, 1, 2))
        layer.update_and_fetch(one, -one)
        layer.keys[:, :, :5] = 7.0
    assert tokens_of(hit.cache(0)) == tokens


def test_prompts_that_grow_token_by_token_are_few_nodes() -> None:
    """As an editor asks at every key that is pressed."""
    made, tokens = Prompts(), list(range(20))
    for more in range(400):
        made.put([*tokens, *range(500, 500 + more)])
    assert len(made.tree) == 2 and made.copied == 20 + 399
    assert made.find([*tokens, *range(500, 899)]) == 419
    for less in range(20, 400):  # and deletes what was written
        made.put([*tokens, *range(500, 500 + less)])
    assert len(made.tree) == 2 and made.copied == 20 + 399


def test_nodes_are_bounded_however_small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Prompts that part from one another at every token."""
    monkeypatch.setattr(radix_tree, "MOST_ARRAYS", 2 * LAYERS * 30)
    made, tokens = Prompts(), list(range(100))
    for parts in range(20, 99):
        made.put([*tokens[:parts], 1000 + parts])
        assert len(made.tree) <= 30
    assert made.find(tokens) >= 90


def test_conversations_hold_their_common_instructions_once() -> None:
    """Two thousand tokens for everybody, and two turns of each."""
    made, system = Prompts(), list(range(2000))
    for number in range(32):
        own = list(range(10_000 * (number + 1), 10_000 * (number + 1) + 150))
        assert made.find([*system, *own]) == (2000 if number else 0)
        made.put([*system, *own[:100]])
        made.put([*system, *own])
    assert made.copied == 2000 + 32 * 150
    assert made.cache.bytes == (2000 + 32 * 150) * TOKEN_BYTES

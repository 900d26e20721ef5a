"""Plain keys and values of prompts seen before; what several begin with is there once.

A node holds the keys and values of a few tokens that follow on its parent's. A prompt is the way
from the root to a node, or into one. Of a new prompt only the tokens beyond that way are copied;
where it parts from the way within a node, the node is cut in two there.

Leaves are forgotten first, the least recently used before the others: what a prompt begins with is
used whenever the prompt is.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from functools import partial

import numpy as np

from worker.engine.cache import kv as caches
from worker.engine.cache.arrays import start
from worker.engine.cache.keys import LEAST_TOKENS, Copied, Hit, Key, common_length
from worker.engine.cache.kv import Cache, Spans
from worker.engine.cache.slot_table import rounded

NODE_TOKENS = 256
"""Most of them in a node: so much is copied at most when one is cut or grows."""
MOST_ARRAYS = 1 << 17
"""In all nodes, however small they are: Metal has room for some 499,000."""


class Node:
    """
    Attributes:
        tokens: of the key, those that this node has; none at the root.
        cache: their keys and values, as a row's.
        name: what its parent knows it by.
        children: by their names: the first token, at the root with the salt.
    """

    def __init__(self, tokens: Key, cache: Cache, name: object, parent: Node | None) -> None:
        self.tokens = tokens
        self.cache = cache
        self.name = name
        self.parent = parent
        self.children: dict[object, Node] = {}

    def __len__(self) -> int:
        return len(self.tokens)

    @property
    def bytes(self) -> int:
        return caches.size_bytes(self.cache)


@dataclass(frozen=True)
class Way:
    """How far a key leads.

    Attributes:
        nodes: from the root, which is not among them.
        inside: how many tokens of the last one are the key's.
        length: how many of all.
    """

    nodes: list[Node]
    inside: int
    length: int


class RadixTree:
    """
    Attributes:
        bytes: of all keys and values.
    """

    def __init__(self) -> None:
        self.bytes = 0
        self._root = Node(np.empty(0, np.int64), [], None, None)
        # The least recently used first, and every node before its parent: the first is a leaf.
        self._by_use: OrderedDict[Node, None] = OrderedDict()

    def __len__(self) -> int:
        """How many nodes there are."""
        return len(self._by_use)

    def new_tokens(self, key: Key, salt: str) -> int:
        """How many tokens `put` would copy."""
        return len(key) - self._way(key, salt).length

    def known(self, key: Key, salt: str) -> int:
        """How many of its first tokens `find` would find."""
        length = self._way(key, salt).length
        return length if length >= LEAST_TOKENS else 0

    def find(self, key: Key, salt: str) -> Hit | None:
        way = self._way(key, salt)
        if way.length < LEAST_TOKENS:
            return None
        self._use(way.nodes[-1])
        return Hit(way.length, partial(_row, [node.cache for node in way.nodes], way.length))

    def put(self, key: Key, salt: str, copied: Copied, limit_bytes: int) -> None:
        """
        Args:
            limit_bytes: a prompt that takes more is not kept.
        """
        way = self._way(key, salt)
        if way.length == len(key):
            self._use(way.nodes[-1])
            return
        spans = _spans(way, len(key))
        parts = copied(spans)
        each = sum(map(caches.size_bytes, parts)) / (len(key) - way.length)
        if each * len(key) > limit_bytes:
            return
        node = self._end(way)
        for (begin, stop), part in zip(spans, parts, strict=True):
            node = self._go_on(node, key[begin:stop].copy(), part, salt)

    def shrink(self, limit_bytes: int) -> None:
        """Forget leaves until no more is left."""
        while self._by_use:
            node = next(iter(self._by_use))
            arrays = 2 * len(node.cache) * len(self)
            if self.bytes <= limit_bytes and arrays <= MOST_ARRAYS:
                return
            assert node.parent is not None and not node.children
            del self._by_use[node], node.parent.children[node.name]
            self.bytes -= node.bytes

    # --- nodes -----------------------------------------------------------------------------------

    def _way(self, key: Key, salt: str) -> Way:
        node, nodes, length, inside = self._root, list[Node](), 0, 0
        while inside == len(node) and length < len(key):
            child = node.children.get(self._name(node, key[length], salt))
            if child is None:
                break
            node, inside = child, common_length(child.tokens, key[length:])
            nodes.append(node)
            length += inside
        return Way(nodes, inside, length)

    def _name(self, parent: Node, token: np.int64, salt: str) -> object:
        return (salt, int(token)) if parent is self._root else int(token)

    def _end(self, way: Way) -> Node:
        """The node that ends where the way does; cuts one for that."""
        if not way.nodes:
            return self._root
        node = way.nodes[-1]
        if way.inside == len(node):
            return node
        assert node.parent is not None
        ends = (0, way.inside), (way.inside, len(node))
        before, after = caches.parts(node.cache, ends)
        start([caches.state(before), caches.state(after)])
        head = Node(node.tokens[: way.inside], before, node.name, node.parent)
        node.parent.children[node.name] = head
        node.tokens, node.cache, node.parent = node.tokens[way.inside :], after, head
        node.name = int(node.tokens[0])
        head.children[node.name] = node
        self._by_use[head] = None
        self._use(head)
        return head

    def _go_on(self, node: Node, tokens: Key, cache: Cache, salt: str) -> Node:
        """Have these follow on a node, in it or in another one."""
        size = caches.size_bytes(cache)
        if _may_grow(node, len(tokens)):
            length = len(node) + len(tokens)
            grown = caches.joined([node.cache, cache], length, length)
            start(caches.state(grown))
            node.tokens, node.cache = np.concatenate([node.tokens, tokens]), grown
        else:
            parent, name = node, self._name(node, tokens[0], salt)
            node = parent.children[name] = Node(tokens, cache, name, parent)
            self._by_use[node] = None
        self.bytes += size
        self._use(node)
        return node

    def _use(self, node: Node) -> None:
        """The node, and all that it follows on, are the last to be forgotten."""
        while node.parent is not None:
            self._by_use.move_to_end(node)
            node = node.parent


def _row(parts: list[Cache], length: int, room: int) -> Cache:
    """With room for at least one token more, as caches grow."""
    return caches.joined(parts, length, rounded(length + max(1, room), NODE_TOKENS))


def _may_grow(node: Node, tokens: int = 1) -> bool:
    """Whether a node may get so many tokens more: else a chain of prompts, each some tokens longer
    than the one before, would be one of nodes."""
    return bool(node) and not node.children and len(node) + tokens <= NODE_TOKENS


def _spans(way: Way, stop: int) -> Spans:
    """The tokens that are to be copied, those of each node apart."""
    begin, room = way.length, NODE_TOKENS
    last = way.nodes[-1] if way.nodes else None
    if last is not None and way.inside == len(last) and _may_grow(last):
        room -= len(last)
    spans = []
    while begin < stop:
        end = min(begin + room, stop)
        spans.append((begin, end))
        begin, room = end, NODE_TOKENS
    return spans

"""A smaller model that says what rows are likely to say next, for several of them at once.

It draws as the rows themselves do, by their rules and with the same numbers: the nearer its
probabilities are to the served model's, the more often both draw the same, at any temperature. What
it says is a guess, checked like any other.

It has a cache of its own, of which each row has a slot once its prompt has been read, a piece a
step. What the served model did not say of a draft is taken back before the next one.
"""

from __future__ import annotations

from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from typing import Any

import mlx.core as mx

from worker.engine.cache import kv as caches
from worker.engine.cache.arrays import start, to_host
from worker.engine.cache.kv import Cache
from worker.engine.cache.slots import SlotCache
from worker.engine.drafts import continuation
from worker.engine.drafts.policy import MOST_DRAFTED
from worker.engine.model.inputs import PromptInputs
from worker.engine.model.model import LoadedModel
from worker.engine.sampling.sampling import Rules, Sampler

PIECE_TOKENS = 256
"""Of a prompt that are read in one step, for which the rows that decode wait."""
WIDEST = 32
"""Tokens of each row in one pass, where rows have gone on without drafts for a while."""

Continuation = continuation.Continuation[Rules]


class DraftModel:
    """
    Args:
        model: with plain caches.
        vocabulary: how many logits the served model has.
        unread: tokens of prompts that are no words: places of pictures, which it does not see.
    """

    def __init__(self, model: LoadedModel, vocabulary: int, unread: AbstractSet[int]) -> None:
        self.model = model
        self._vocabulary = vocabulary
        self._unread = unread
        self._reading: dict[Continuation, Cache] = {}
        self.clear()

    def __len__(self) -> int:
        """How many rows it follows."""
        return len(self._rows) + len(self._reading)

    def clear(self) -> None:
        """Forget all rows."""
        self._rows: list[Continuation] = []
        self._reading.clear()
        self._cache = SlotCache(len(self.model.new_cache()))

    def follow(self, prompt: Sequence[int], said: Sequence[int], rules: Rules) -> Continuation:
        """Drafts for a row; nothing is computed before somebody asks for them."""
        words = [token for token in prompt if token not in self._unread]
        return Continuation(words, said, rules, self.model.vocabulary)

    def leave(self, gone: Sequence[Continuation]) -> None:
        """Forget these rows."""
        for row in gone:
            self._reading.pop(row, None)
        keep = [number for number, row in enumerate(self._rows) if row not in gone]
        if len(keep) < len(self._rows):
            self._rows = [self._rows[number] for number in keep]
            self._cache.leave(keep)

    def is_ready(self, row: Continuation) -> bool:
        """Whether it has read the row's prompt, and has room for a draft."""
        limit = self.model.context_tokens
        return row in self._rows and (limit is None or len(row.tokens) + MOST_DRAFTED <= limit)

    def read_on(self, rows: Sequence[Continuation]) -> None:
        """Read a piece of the first of these prompts that is not read yet."""
        row = next((one for one in rows if one not in self._rows and len(one.tokens) > 1), None)
        if row is None:
            return
        cache = self._reading.setdefault(row, self.model.new_cache())
        target = len(row.tokens) - 1  # the last one is fed with the first draft
        stop = min(row.read + PIECE_TOKENS, target)
        piece = row.tokens[row.read : stop]
        embeds: mx.array | None = None
        inputs: dict[str, Any] = {}
        if not row.read:
            embeds, inputs = self.model.embed(PromptInputs(piece)).part(0, len(piece))
        with caches.room_for(cache, target):
            self.model.forward(mx.array([piece]), cache, embeds, inputs, self._deltas(1))
        row.read = stop
        if stop == target:
            del self._reading[row]
            self._cache.join(cache, [target], is_batch=False)
            self._rows.append(row)
            cache = self._cache.layers
        start(caches.held(cache))

    def draft(self, rows: Sequence[Continuation], most: int) -> None:
        """Draft so many tokens for each of these rows, which are ready, and hand them over."""
        asked = [self._rows.index(row) for row in rows]
        for number, row in zip(asked, rows, strict=True):  # others may have drafts left
            self._cache.trim(number, self._cache.lengths[number] - row.read)
        logits = self._catch_up(asked)
        sampler = Sampler([row.rules for row in rows], self._vocabulary)
        drawn: list[mx.array] = []
        for number in range(most):
            if drawn:
                logits = self._next(asked, drawn[-1])
            places = [row.said + number for row in rows]
            drawn.append(sampler.choose(sampler.biased(self._fitted(logits)), places))
        for row, tokens in zip(rows, to_host(mx.stack(drawn, axis=1)), strict=True):
            row.take(tokens)

    def _deltas(self, rows: int) -> mx.array | None:
        return mx.zeros((rows, 1), mx.int32) if self.model.uses_rope_deltas else None

    def _catch_up(self, asked: Sequence[int]) -> mx.array:
        """Read what these rows have said; return what comes next in each, [asked, vocabulary]."""
        unread = {number: self._rows[number].tokens[self._rows[number].read :] for number in asked}
        found: dict[int, mx.array] = {}
        while unread:
            width = min(WIDEST, max(map(len, unread.values())))
            fed = [unread.get(number, [])[:width] for number in range(len(self._rows))]
            padded = mx.array([[*tokens, *[0] * (width - len(tokens))] for tokens in fed])
            made = self._pass(padded, [len(tokens) for tokens in fed])
            for number in list(unread):
                unread[number] = unread[number][width:]
                if not unread[number]:
                    del unread[number]
                    found[number] = made[number, len(fed[number]) - 1]
        return mx.stack([found[number] for number in asked])

    def _next(self, asked: Sequence[int], tokens: mx.array) -> mx.array:
        """Go on by a token of each of these rows; return what comes next, [asked, vocabulary]."""
        places = mx.array(list(asked))
        fed = mx.zeros((len(self._rows),), mx.int32).at[places].add(mx.maximum(tokens, 0))
        counts = [int(number in asked) for number in range(len(self._rows))]
        return self._pass(fed[:, None], counts)[places, 0]

    def _pass(self, tokens: mx.array, counts: Sequence[int]) -> mx.array:
        """Feed tokens [rows, width], of which so many belong to each row; return all logits."""
        cache = self._cache
        deltas = self._deltas(cache.span)
        made = self.model.forward(cache.spread(tokens), cache.layers, rope_deltas=deltas)
        logits = cache.gathered(made)
        cache.advance(counts)
        return logits

    def _fitted(self, logits: mx.array) -> mx.array:
        """As many logits as the served model has."""
        missing = self._vocabulary - logits.shape[-1]
        if missing > 0:
            return mx.pad(logits, [(0, 0), (0, missing)], constant_values=mx.array(-mx.inf))
        return logits[:, : self._vocabulary]

"""Brings prompts into key-value caches, in pieces small enough that running streams flow on.

A prefill leaves out the last token: the decode batch feeds it, so that the first token of an
answer is chosen like every other. A job that goes on with an answer (moved from another worker,
or recovered after a failed step) prefills the answer's tokens like the prompt's.
"""

from __future__ import annotations

import time
from collections import abc
from dataclasses import dataclass, field, replace
from functools import partial

import mlx.core as mx
import numpy as np

from worker.engine.cache import kv as caches
from worker.engine.cache.arrays import wait_for_device
from worker.engine.cache.keys import Key
from worker.engine.cache.kv import Cache
from worker.engine.cache.prefix import PrefixCache
from worker.engine.model.inputs import Embedded, PromptInputs, left_padded, to_mlx
from worker.engine.model.model import LoadedModel
from worker.engine.model.vision_tower import MoreToEncode
from worker.engine.prepare.preprocess import Prompt
from worker.engine.schedule.request import Request
from worker.engine.schedule.sequences import Sequence

MOST_TOGETHER = 32
"""How many prompts are prefilled at once at most."""
LEAST_A_STREAM = 64
"""Tokens; with fewer, two streams wait for one another more than they gain."""


@dataclass(eq=False)
class Prefill:
    """Sequences of one request on their way into a cache, one row for all of them.

    Those that have no output tokens yet share the prompt; any other is alone.

    Attributes:
        suspect: they were in the batch when a step failed, and are to be tried alone.
        tokens: the prompt and the output tokens; the last one is left to be fed.
        done: how many tokens the cache holds.
        computed: it holds all but the last one.
        kept: it is remembered, as far as it is to be.
        cached: how many of them were found in the prefix cache.
        unsplit: the prompt must be prefilled in one piece.
        seconds: time spent on it.
        inputs: the prompt for the network, while it is needed.
        needs_images: all of them, whatever a cache holds: the model looks at them later, too.
    """

    request: Request
    sequences: list[Sequence]
    suspect: bool = False
    cache: Cache | None = None
    embedded: Embedded | None = None
    done: int = 0
    computed: bool = False
    kept: bool = False
    cached: int = 0
    unsplit: bool = False
    seconds: float = 0.0
    vision_seconds: float = 0.0
    inputs: PromptInputs | None = None
    needs_images: bool = False
    tokens: list[int] = field(init=False)

    def __post_init__(self) -> None:
        self.take(self.request.taken)

    def take(self, prompt: Prompt) -> None:
        """Go by the prompt as the model has taken it. Raises as `Request.take_prompt`."""
        self.request.take_prompt(prompt)
        self.tokens = [*prompt.ids, *self.sequences[0].output_tokens]

    @property
    def length(self) -> int:
        """Of the prompt as the model has taken it."""
        return len(self.request.taken.ids)

    @property
    def prompt(self) -> Prompt:
        return self.request.prompt

    @property
    def salt(self) -> str:
        return self.request.job.cache_salt

    @property
    def target(self) -> int:
        """How many tokens the cache must hold in the end."""
        return len(self.tokens) - 1

    @property
    def left(self) -> int:
        return self.target - self.done

    @property
    def cached_key(self) -> Key:
        """The prefix cache's key for what its cache will hold."""
        return self.key[: self.target]

    @property
    def key(self) -> Key:
        """The prefix cache's key for all its tokens; the cache holds all but the last one."""
        output_tokens = np.array(self.tokens[self.length :], np.int64)
        return np.concatenate([self.request.taken.key, output_tokens])

    def begin_decoding(self) -> list[Sequence]:
        """Make its sequences rows, which go on from the finished cache."""
        delta = self.embedded.rope_delta if self.embedded is not None else None
        for sequence in self.sequences:
            sequence.begin_decoding(self.tokens[-1], self.target, delta)
        return self.sequences


@dataclass(frozen=True)
class Prefilled:
    """Finished prefills and their cache, in its rows' order if it is a batch cache."""

    prefills: list[Prefill]
    cache: Cache
    is_batch: bool


@dataclass(frozen=True)
class Piece:
    """How many tokens were prefilled, and how long that took the device and the host."""

    tokens: int
    seconds: float


def inputs_of(prompt: Prompt) -> PromptInputs:
    """The prompt as the network takes it, on the thread that computes."""
    arrays = {name: to_mlx(value) for name, value in prompt.inputs.items()}
    return PromptInputs(prompt.ids, arrays, prompt.image_keys)


class Prefiller:
    def __init__(self, model: LoadedModel, prefixes: PrefixCache) -> None:
        self._model = model
        self._prefixes = prefixes

    def embed(self, prefill: Prefill, seconds: float, beside: abc.Sequence[Prefill] = ()) -> bool:
        """Make the prompt's embeddings, taking about so long for its images.

        Args:
            beside: those that come next; their images may get on meanwhile.

        Returns:
            False if the images are not done yet.
        """
        pictured = bool(prefill.prompt.inputs)
        started = time.perf_counter()
        try:
            embedded = self._embed(prefill, seconds, [self._inputs(other) for other in beside])
        except MoreToEncode:
            return False
        finally:
            spent = time.perf_counter() - started
            prefill.seconds += spent
            prefill.vision_seconds += spent if pictured else 0.0
        prefill.inputs, prefill.embedded = None, embedded
        self._start(prefill)
        return True

    def is_encoded(self, prefill: Prefill) -> bool:
        """Whether nothing is left to do for its images, if it has any."""
        if prefill.embedded is not None or not prefill.prompt.inputs:
            return True
        return self._model.has_encoded(self._inputs(prefill))

    def new_tokens(self, prefill: Prefill) -> int:
        """How many tokens it has to compute in all; before its turn, as far as can be told."""
        begun = prefill.embedded is not None or not self._prefixes.limit_bytes
        known = 0 if begun else self._prefixes.known(prefill.cached_key, prefill.salt)
        return prefill.target - max(known, prefill.cached)

    def advance(self, prefill: Prefill, tokens: int) -> Piece:
        """Prefill up to so many tokens, computed when this returns."""
        started = time.perf_counter()
        if not self._model.abilities.pieces:
            tokens = prefill.left
        if prefill.unsplit and not prefill.done:
            count = self._prefill_unsplit(prefill)
        else:
            count = self._prefill_part(prefill, tokens)
        waited_s = wait_for_device()  # for a decode step's rest, say, whose time this is not
        assert prefill.cache is not None
        caches.materialize(prefill.cache)
        prefill.computed = prefill.left == 0
        spent_s = time.perf_counter() - started - waited_s
        prefill.seconds += spent_s
        return Piece(count, spent_s)

    def copying_bytes(self, prefill: Prefill) -> int:
        """How much `keep` will copy: what of it is not remembered yet, and of use to others."""
        if prefill.unsplit or prefill.cache is None or not prefill.target:
            return 0
        if self._model.family.last_with_prompt and prefill.target >= prefill.length:
            return 0  # tokens of an answer are not in it as they would be in a prompt
        new = self._prefixes.new_tokens(prefill.cached_key, prefill.salt)
        return caches.size_bytes(prefill.cache) * new // prefill.target

    def keep(self, prefill: Prefill) -> None:
        """Remember a finished prefill's cache (which may be changed afterwards)."""
        prefill.kept = True
        if prefill.cache is not None and self.copying_bytes(prefill):
            copied = partial(caches.snapshots, prefill.cache)
            self._prefixes.put(prefill.cached_key, prefill.salt, copied)

    def _inputs(self, prefill: Prefill) -> PromptInputs:
        """Its prompt for the network; images that a cache holds by now are spared."""
        if prefill.inputs is None:
            prefill.inputs = inputs_of(prefill.prompt)
        ends = prefill.request.taken.image_ends
        if not ends or prefill.needs_images:
            return prefill.inputs
        known = self._prefixes.known(prefill.cached_key, prefill.salt)
        return replace(prefill.inputs, spared=sum(end <= known for end in ends))

    def _embed(
        self, prefill: Prefill, seconds: float, beside: abc.Sequence[PromptInputs]
    ) -> Embedded:
        """Its embeddings; from where its cache will end, none is made of images that were spared.

        Raises:
            MoreToEncode: its images are not done yet.
        """
        inputs = self._inputs(prefill)
        try:
            embedded = self._model.embed(inputs, seconds, beside)
            prefill.take(prefill.prompt.of_length(embedded.length))
            if not inputs.spared or not embedded.is_blank(self._known(prefill, embedded)):
                return embedded
        except MoreToEncode:
            raise
        except Exception:
            # A boundary: a model may look at features, and these are none.
            if not inputs.spared:
                raise
        prefill.needs_images = True
        return self._embed(prefill, seconds, beside)

    def _known(self, prefill: Prefill, embedded: Embedded) -> int:
        """How many of its first tokens a cache is there for."""
        if not self._model.takes_chunks(prefill.prompt.ids, embedded, self._model.new_cache()):
            return 0
        return self._prefixes.known(prefill.cached_key, prefill.salt)

    def _start(self, prefill: Prefill) -> None:
        """Start from the longest cache that is known, or from an empty one."""
        assert prefill.embedded is not None
        prefill.cache = self._model.new_cache()
        ids = prefill.prompt.ids
        prefill.unsplit = not self._model.takes_chunks(ids, prefill.embedded, prefill.cache)
        if prefill.unsplit or not self._prefixes.limit_bytes:
            return
        hit = self._prefixes.find(prefill.key, prefill.salt)
        if hit is not None:
            prefill.cache = hit.cache(prefill.target - hit.length)
            prefill.done = prefill.cached = hit.length

    def _piece(self, prefill: Prefill, stop: int) -> None:
        """Prefill up to the end of the prompt, or of the answer's tokens, lazily."""
        assert prefill.cache is not None and prefill.embedded is not None
        start, length = prefill.done, prefill.length
        if start < length:
            stop = min(stop, length)
            embeds, inputs = prefill.embedded.part(start, stop)
        else:
            embeds, inputs = None, {}
        with caches.room_for(prefill.cache, prefill.target):
            self._model.forward(
                mx.array([prefill.tokens[start:stop]]),
                prefill.cache,
                embeds,
                inputs,
                prefill.embedded.rope_delta,
            )
        prefill.done = stop

    def _prefill_part(self, prefill: Prefill, tokens: int) -> int:
        """Prefill up to so many tokens, lazily. Returns how many."""
        stop = min(prefill.target, prefill.done + tokens)
        count = stop - prefill.done
        while prefill.done < stop:
            self._piece(prefill, stop)
        return count

    def _prefill_unsplit(self, prefill: Prefill) -> int:
        """Prefill in one piece, last token included, and take that back, lazily.

        For attention that looks ahead within the prompt: fed once more, the last token sees
        exactly what it saw here.
        """
        assert prefill.cache is not None
        length = prefill.length
        self._piece(prefill, length)
        while prefill.done < prefill.target:
            self._piece(prefill, prefill.target)
        if prefill.done > prefill.target:
            caches.trim(prefill.cache, 1)
            prefill.done -= 1
        return length

    # --- several at once -------------------------------------------------------------------------

    def can_share(self, prefill: Prefill) -> bool:
        """Whether it may be prefilled in one batch with others like it."""
        embedded = prefill.embedded
        return (
            not prefill.unsplit
            and embedded is not None
            and embedded.is_plain()
            and not prefill.done
            and len(prefill.tokens) == prefill.length
            and prefill.target > 0
            and self._model.batchable
            and not self._model.family.last_with_prompt
        )

    def together(self, prefills: abc.Sequence[Prefill]) -> list[Prefilled] | None:
        """Prefill short prompts as one left-padded batch, or as one on every stream.

        Returns:
            None if this model's caches cannot start out padded.
        """
        started = time.perf_counter()
        streams = self._model.streams
        batches = []
        for number, group in enumerate(_groups(prefills, len(streams))):
            with mx.stream(streams.stream(number)):
                cache = self._batch(group)
            if cache is None:
                return None
            batches.append(Prefilled(group, cache, is_batch=True))
        streams.compute([caches.state(batch.cache) for batch in batches])
        for batch in batches:
            self._keep_together(batch)
        share = (time.perf_counter() - started) / len(prefills)
        for prefill in prefills:
            prefill.done = prefill.target
            prefill.seconds += share
        return batches

    def _keep_together(self, batch: Prefilled) -> None:
        """Remember each prompt now: who asks for it again need not wait for its answer's end."""
        for number, prefill in enumerate(batch.prefills):
            copied = partial(caches.row_parts, batch.cache, number)
            self._prefixes.put(prefill.cached_key, prefill.salt, copied)

    def _batch(self, prefills: abc.Sequence[Prefill]) -> Cache | None:
        """Build a batch cache with their rows in order, lazily."""
        longest = max(prefill.target for prefill in prefills)
        padding = [longest - prefill.target for prefill in prefills]
        cache = caches.left_padded(self._model.new_cache(), padding)
        if cache is None:
            return None
        parts = [p.embedded.part(0, p.target) for p in prefills if p.embedded is not None]
        embeds, inputs = left_padded(parts, padding)
        tokens = [
            [0] * pad + prefill.tokens[: prefill.target]
            for prefill, pad in zip(prefills, padding, strict=True)
        ]
        self._model.forward(mx.array(tokens), cache, embeds, inputs)
        return cache


def _groups(prefills: abc.Sequence[Prefill], streams: int) -> list[list[Prefill]]:
    """Cut into as many parts, about equal, as there are streams and work for them."""
    tokens = sum(prefill.target for prefill in prefills)
    count = max(1, min(streams, len(prefills), tokens // LEAST_A_STREAM))
    size = -(-len(prefills) // count)
    return [list(prefills[at : at + size]) for at in range(0, len(prefills), size)]

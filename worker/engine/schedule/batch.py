"""The rows that decode together, one token each a step.

The pipeline runs one step ahead: a step starts the computation of the next tokens and then reads
those of the step before, so that the device computes while the host writes text. A row that turns
out to be finished has been computed once too often; that token is thrown away. Rows with a
grammar need their token on the host before the next one can be chosen: their batch reads first,
while the device runs the model.

A draft is of what follows the newest token, so that where rows are likely to try one, the step
reads first and then begins one pass for all of it (`verification.py`).

A row joins with its prompt's last token still to be fed: its first token comes out of an ordinary
step, sampled like all others.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import mlx.core as mx

from worker.engine.cache.arrays import start, to_host
from worker.engine.cache.kv import Cache, Spans
from worker.engine.cache.padded import PaddedCache
from worker.engine.cache.slots import SlotCache
from worker.engine.model.model import LoadedModel
from worker.engine.prepare.grammar import apply_masks
from worker.engine.sampling.logprobs import LogprobReader
from worker.engine.sampling.penalties import Penalties, Said
from worker.engine.sampling.sampling import Sampler
from worker.engine.schedule.sequences import Chosen, Rows, Sequence, State
from worker.engine.schedule.speculation import Attempt, Speculation
from worker.engine.schedule.verification import Deliver, Verification, fed

SETTLE_EVERY_STEPS = 32
"""How often what caches hold and no step reads is computed: it would grow for ever."""


CLEAR_EVERY_STEPS = 256
"""As mlx-lm does: rows have grown, and buffers of their former sizes are of no use."""


@dataclass
class Pending:
    """What a step has started and the next one reads.

    Attributes:
        rows: whose tokens they are; None: a row's that has left since.
    """

    rows: list[Sequence | None]
    tokens: mx.array
    logprobs: LogprobReader | None


class DecodeBatch:
    """Not thread-safe; after an exception from `step`, throw it away and prefill its rows anew.

    Args:
        speculation: None: no drafts are tried.
    """

    def __init__(self, model: LoadedModel, speculation: Speculation | None = None) -> None:
        self._model = model
        self._speculation = speculation
        self.rows: list[Sequence] = []
        self._cache: SlotCache | PaddedCache = PaddedCache()
        self._feed: mx.array | None = None
        self._rope: mx.array | None = None
        self._pending: Pending | Verification | None = None
        self._penalties = Penalties(model.vocabulary)
        self._sampler: Sampler | None = None
        self._steps = 0

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def busy(self) -> bool:
        return bool(self.rows) or self._pending is not None

    # --- joining and leaving ---------------------------------------------------------------------

    def join(self, rows: Rows, cache: Cache, *, is_batch: bool) -> None:
        """Add rows whose prompts, but for the last token, are in `cache`.

        Args:
            is_batch: whether `cache` is a batch cache; a row cache holds exactly one row, or
                the common prompt of all of them, which is copied.
        """
        if not self.rows:
            self._cache = self._empty_cache(cache)
        self._cache.join(cache, [row.fed for row in rows], is_batch=is_batch)
        feed = mx.array([row.feed for row in rows])
        self._feed = feed if self._feed is None else mx.concatenate([self._feed, feed])
        if self._model.uses_rope_deltas:
            deltas = [
                mx.zeros((1, 1), mx.int32) if row.rope_delta is None else row.rope_delta
                for row in rows
            ]
            known = [] if self._rope is None else [self._rope]
            self._rope = mx.concatenate([*known, *deltas])
        said = [Said(row.prompt_ids, row.output_tokens) for row in rows]
        self._penalties.join([row.rules for row in rows], said)
        self.rows.extend(rows)
        self._sampler = None

    def leave(self, gone: Rows) -> None:
        """Take rows out, finished or cancelled. Only between steps."""
        if not gone:
            return
        keep = [index for index, row in enumerate(self.rows) if row not in gone]
        if len(keep) == len(self.rows):
            return
        self.rows = [self.rows[index] for index in keep]
        if self._speculation is not None:
            self._speculation.leave(gone)
        if self._pending is not None:
            self._pending.rows = [None if row in gone else row for row in self._pending.rows]
        self._penalties.leave(keep)
        self._sampler = None
        if not keep:
            self._cache = PaddedCache()
            self._feed, self._rope, self._pending = None, None, None
            return
        self._cache.leave(keep)
        chosen = mx.array(keep)
        if self._feed is not None:
            self._feed = self._feed[chosen]
        if self._rope is not None:
            self._rope = self._rope[chosen]

    def parts(self, row: Sequence, spans: Spans) -> list[Cache]:
        """Copies of spans of a row that leaves before the next step; it has `row.fed` tokens."""
        return self._cache.parts(self.rows.index(row), spans)

    def _empty_cache(self, first: Cache) -> SlotCache | PaddedCache:
        plain = self._model.has_plain_caches and self._model.batchable
        return SlotCache(len(first)) if plain else PaddedCache()

    # --- a step ----------------------------------------------------------------------------------

    def step(self, deliver: Deliver) -> None:
        """Start the next tokens' computation and deliver those of the step before.

        Args:
            deliver: takes the tokens; must not change the batch.
        """
        if self._reads_first():
            self._catch_up(deliver)
            if not any(row.state is State.DECODING for row in self.rows):
                return
            attempts = self._attempts()
            if self._speculation is not None and any(attempt.draft for attempt in attempts):
                with self._speculation.failing_for_good():
                    self._verify(attempts)
                return
        before, self._pending = self._pending, None
        assert not isinstance(before, Verification)
        if self._all_will_end():
            _deliver(before, deliver)
            return
        logits = self._forward()
        if any(row.grammar is not None for row in self.rows):
            start(logits)
            _deliver(before, deliver)
            self._pending = self._choose(logits)
        else:
            self._pending = self._choose(logits)
            _deliver(before, deliver)

    def begin(self, embeds: mx.array, inputs: dict[str, Any], deliver: Deliver) -> None:
        """A first step, of which the tokens are delivered at once. The rows' prompts' last tokens
        are embedded already, and otherwise than an answer's.

        Args:
            embeds: [rows, 1, width].
            inputs: the model's other keyword inputs.
        """
        self._pending = self._choose(self._forward(embeds, inputs))
        self._catch_up(deliver)

    def _reads_first(self) -> bool:
        if isinstance(self._pending, Verification):
            return True
        speculation = self._speculation
        if speculation is None or not speculation.on or not self._takes_back:
            return False
        return self._pending is None or speculation.expected(self.rows)

    @property
    def _takes_back(self) -> bool:
        """Whether several tokens can be fed to each row, and some be taken back."""
        return isinstance(self._cache, SlotCache) and any(row.fed for row in self.rows)

    def _attempts(self) -> list[Attempt]:
        if self._speculation is None or not self._speculation.on or not self._takes_back:
            return []
        return self._speculation.attempts(self.rows)

    def _catch_up(self, deliver: Deliver) -> None:
        """Deliver all that is on its way, and take back what was written for tokens not said."""
        before, self._pending = self._pending, None
        if not isinstance(before, Verification):
            _deliver(before, deliver)
            return
        assert isinstance(self._cache, SlotCache) and self._speculation is not None
        numbers = {row: number for number, row in enumerate(self.rows)}
        with self._speculation.failing_for_good():
            found = before.deliver(deliver)
        for row, draft, said in found:
            number = numbers[row]
            beyond = len(draft) + 1 - len(said)
            self._cache.trim(number, beyond)
            self._penalties.take(number, said[:-1])
            row.fed -= beyond
            row.chosen += len(said)
            accepted = sum(one == other for one, other in zip(draft, said, strict=False))
            self._speculation.note(row, len(draft), accepted)
        self._feed = mx.array([row.feed for row in self.rows])

    def _verify(self, attempts: list[Attempt]) -> None:
        """Begin a pass over each row's last token and what it tries."""
        cache = self._cache
        assert isinstance(cache, SlotCache)
        rope = None if self._rope is None else cache.spread(self._rope)
        tokens = cache.spread(fed(self.rows, attempts))
        made = self._model.forward(tokens, cache.layers, rope_deltas=rope)
        logits = cache.gathered(made)
        cache.advance([attempt.places for attempt in attempts])
        for row, attempt in zip(self.rows, attempts, strict=True):
            row.fed += attempt.places
        self._pending = Verification.begin(self.rows, attempts, logits, self._penalties)
        self._count_step()

    def _all_will_end(self) -> bool:
        """Whether every row's last token is chosen already, so that nothing is left to compute."""
        return all(row.chosen >= row.limit for row in self.rows)

    def _forward(
        self, embeds: mx.array | None = None, inputs: dict[str, Any] | None = None
    ) -> mx.array:
        """Feed each row its next token, or what it is embedded as; returns [rows, vocabulary]."""
        assert self._feed is not None
        cache = self._cache
        rope = None if self._rope is None else cache.spread(self._rope)
        tokens = cache.spread(self._feed)[:, None]
        if inputs is None and rope is not None and not any(row.fed for row in self.rows):
            # Prompts of one token: before an empty cache such models take the positions of
            # whichever prompt they saw last.
            inputs = {"position_ids": mx.zeros((3, *tokens.shape), mx.int32)}
        made = self._model.forward(tokens, cache.layers, embeds, inputs, rope_deltas=rope)
        logits = cache.gathered(made[:, -1, :])
        cache.advance()  # which may move rows: what was made lies where they were
        for row in self.rows:
            row.fed += 1
        return logits

    def _choose(self, logits: mx.array) -> Pending:
        assert self._feed is not None
        sampler = self._sampler or self._make_sampler()
        wanted = [(place, row) for place, row in enumerate(self.rows) if row.logprobs is not None]
        raw = LogprobReader.of(logits, [(place, row.logprobs or 0) for place, row in wanted])
        fresh = [row.fresh for row in self.rows]
        logits = sampler.biased(self._penalties.apply(logits, self._feed, fresh))
        logits = self._masked(logits)
        tokens = sampler.choose(logits, [row.chosen for row in self.rows])
        if raw is not None:
            raw.choose(tokens)
        settled = self._count_step()
        start([tokens, *([] if raw is None else raw.arrays), *settled])
        for row in self.rows:
            row.fresh = False
            row.chosen += 1
        self._feed = tokens
        return Pending(list(self.rows), tokens, raw)

    def _count_step(self) -> list[mx.array]:
        """Returns what is to be computed beside the step's tokens."""
        self._steps += 1
        if self._steps % CLEAR_EVERY_STEPS == 0:
            mx.clear_cache()
        return self._cache.settle() if self._steps % SETTLE_EVERY_STEPS == 0 else []

    def _make_sampler(self) -> Sampler:
        rules = [row.rules for row in self.rows]
        self._sampler = Sampler(rules, self._model.vocabulary)
        return self._sampler

    def _masked(self, logits: mx.array) -> mx.array:
        masks = []
        for place, row in enumerate(self.rows):
            mask = row.grammar.mask() if row.grammar is not None else None
            if mask is not None:
                masks.append((place, mask))
        return apply_masks(logits, masks)


def _deliver(pending: Pending | None, deliver: Deliver) -> None:
    if pending is not None:
        chosen = _read(pending)
        for item in chosen:
            item.row.feed = item.token
        deliver(chosen)


def _read(pending: Pending) -> list[Chosen]:
    tokens = to_host(pending.tokens)
    read = (
        {}
        if pending.logprobs is None
        else {place: rest for place, *rest in pending.logprobs.read()}
    )
    return [
        Chosen(row, tokens[place], *read.get(place, ()))
        for place, row in enumerate(pending.rows)
        if row is not None
    ]

"""Several tokens of a row in one pass: its draft, held against what the row itself draws.

A token is a function of (seed, position, logits). So each drafted token is fed as if it had been
said, the row's own next token is drawn after it, and the draft holds as long as the two are the
same: what is said is what would have been said without drafts. To the sampler every token to be
drawn is a row, here called a place: one after the row's last token, one after each of its draft.
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Sequence as Several
from dataclasses import dataclass

import mlx.core as mx

from worker.engine.cache.arrays import start, to_host
from worker.engine.prepare.grammar import apply_masks
from worker.engine.sampling.logprobs import LogprobReader
from worker.engine.sampling.penalties import Penalties
from worker.engine.sampling.sampling import Sampler
from worker.engine.schedule.sequences import Chosen, Rows, Sequence, State
from worker.engine.schedule.speculation import Attempt

Deliver = Callable[[list[Chosen]], None]


def fed(rows: Rows, attempts: Several[Attempt]) -> mx.array:
    """The tokens of a pass, [rows, width]: each row's last one and its draft. What is beyond it is
    any token of its own, and nothing is read of what comes of that."""
    width = max(attempt.places for attempt in attempts)
    return mx.array(
        [
            [row.feed, *attempt.draft, *[row.feed] * (width - attempt.places)]
            for row, attempt in zip(rows, attempts, strict=True)
        ]
    )


@dataclass
class Verification:
    """A pass with drafts that is on its way.

    Attributes:
        rows: whose it is; None: a row's that has left since.
        attempts: what each of them tries.
        tokens: what they draw, [places], row by row.
    """

    rows: list[Sequence | None]
    attempts: list[Attempt]
    tokens: mx.array
    logprobs: LogprobReader | None

    @classmethod
    def begin(
        cls, rows: Rows, attempts: list[Attempt], logits: mx.array, penalties: Penalties
    ) -> Verification:
        """Draw a token at every place, lazily begun.

        Args:
            logits: [rows, width, vocabulary].
        """
        owners = [n for n, attempt in enumerate(attempts) for _ in range(attempt.places)]
        within = [number for attempt in attempts for number in range(attempt.places)]
        logits = logits[mx.array(owners), mx.array(within)]
        wanted = [(place, rows[owner].logprobs) for place, owner in enumerate(owners)]
        raw = LogprobReader.of(logits, [(place, n) for place, n in wanted if n is not None])
        feed, fresh = mx.array([row.feed for row in rows]), [row.fresh for row in rows]
        drafts = [attempt.draft for attempt in attempts]
        logits = penalties.apply_along(logits, feed, fresh, drafts)
        sampler = Sampler([rows[owner].rules for owner in owners], logits.shape[-1])
        masks = [mask for attempt in attempts for mask in attempt.masks or [None] * attempt.places]
        logits = apply_masks(
            sampler.biased(logits), [(n, mask) for n, mask in enumerate(masks) if mask is not None]
        )
        pairs = zip(owners, within, strict=True)
        tokens = sampler.choose(logits, [rows[owner].chosen + number for owner, number in pairs])
        if raw is not None:
            raw.choose(tokens)
        start([tokens, *([] if raw is None else raw.arrays)])
        for row, draft in zip(rows, drafts, strict=True):
            row.fresh = False
            row.request.drafted += len(draft)
        return cls(list(rows), attempts, tokens, raw)

    def deliver(self, deliver: Deliver) -> list[tuple[Sequence, list[int], list[int]]]:
        """Wait for the tokens and deliver those that are said, one by one.

        Returns:
            Each row that is still there, its draft, and what it has said.
        """
        tokens = to_host(self.tokens)
        read = (
            {} if self.logprobs is None else {place: rest for place, *rest in self.logprobs.read()}
        )
        place, found = 0, []
        for row, attempt in zip(self.rows, self.attempts, strict=True):
            if row is not None:
                places = range(place, place + attempt.places)
                drawn = [Chosen(row, tokens[at], *read.get(at, ())) for at in places]
                found.append((row, attempt.draft, _said(drawn, attempt.draft, deliver)))
            place += attempt.places
        return found


def _said(drawn: list[Chosen], draft: list[int], deliver: Deliver) -> list[int]:
    """Deliver a row's tokens up to the first that was not drafted, or that ends or changes what
    the later ones were drawn by."""
    row, said = drawn[0].row, []
    rules = _grammar_is_on(row)
    for number, chosen in enumerate(drawn):
        right = number < len(draft) and draft[number] == chosen.token
        row.request.accepted += right
        deliver([chosen])
        said.append(chosen.token)
        row.feed = chosen.token
        going_on = row.state is State.DECODING and _grammar_is_on(row) == rules
        if not right or not going_on:
            break
    return said


def _grammar_is_on(row: Sequence) -> tuple[bool, bool]:
    """A thought ends, a message begins: what is to be said next shows that, and no draft does."""
    grammar = row.grammar
    return (False, False) if grammar is None else (grammar.active, grammar.at_head)

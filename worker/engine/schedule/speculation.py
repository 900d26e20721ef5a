"""Which rows of a batch try a draft in the next pass, and how many tokens of it."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Collection, Iterator
from collections.abc import Sequence as Several
from dataclasses import dataclass

from worker.engine.draft_model.draft_model import Continuation, DraftModel
from worker.engine.drafts.lookup import Lookup
from worker.engine.drafts.policy import MOST_DRAFTED, Costs, widths
from worker.engine.drafts.prediction import Prediction
from worker.engine.drafts.source import Drafts, FirstOf
from worker.engine.model.model import LoadedModel
from worker.engine.options import WITHOUT_MODEL
from worker.engine.prepare.grammar import Mask
from worker.engine.schedule.sequences import Rows, Sequence, State

log = logging.getLogger(__name__)

MOST_FORESEEN = 4096
"""Tokens of an answer for which room is made."""


@dataclass(frozen=True)
class Attempt:
    """What one row tries.

    Attributes:
        draft: the tokens that may come next; empty: it goes on by one token as ever.
        masks: which tokens may come next, before the draft and after each of its tokens; empty for
            rows without a grammar.
    """

    draft: list[int]
    masks: list[Mask | None]

    @property
    def places(self) -> int:
        """How many tokens are chosen for it."""
        return len(self.draft) + 1


class Speculation:
    """Of one engine, for all its batches.

    Attributes:
        on: whether anything is tried.
        costs: of wider passes.
        drafter: where drafts of a row come from.
        draft_model: makes them where there is one and it is to be asked.
        drafted, accepted: tokens so far.
    """

    def __init__(self, model: LoadedModel) -> None:
        self._model = model
        self._guessed: dict[Sequence, int] = {}
        self.on = False
        self.costs = Costs()
        self.drafter: Callable[[Sequence], Drafts] = foreseen
        self.draft_model: DraftModel | None = None
        self._followed: dict[Sequence, Continuation] = {}
        self._asks = False
        self.drafted = self.accepted = 0

    def begin_anew(self, speculate: str) -> None:
        """Go by this option, and by the model's abilities as they are now."""
        self.on = speculate != "off" and self._model.abilities.speculation
        self._asks = speculate not in WITHOUT_MODEL
        self._guessed, self._followed = {}, {}
        if self.draft_model is not None:
            self.draft_model.clear()
        self.drafted = self.accepted = 0

    def gauges(self) -> dict[str, float]:
        return {"drafted_tokens": float(self.drafted), "accepted_tokens": float(self.accepted)}

    def join(self, rows: Rows) -> None:
        """Have drafts for rows that are about to decode."""
        stays = State.DECODING
        self.leave([one for one in self._followed if one.state is not stays or one in rows])
        for row in rows:
            row.drafts = self._drafts_of(row) if self.on else None

    def leave(self, gone: Rows) -> None:
        """These rows decode no more."""
        followed = [self._followed.pop(row) for row in gone if row in self._followed]
        if followed and self.draft_model is not None:
            self.draft_model.leave(followed)

    def expected(self, rows: Rows) -> bool:
        """Whether rows whose newest tokens are not known yet are likely to try something once they
        are."""
        drafts = [self._draft(row, MOST_DRAFTED + 1) for row in rows]
        pairs = list(zip(rows, drafts, strict=True))
        asked = self._asked(rows, drafts)
        lengths = [max(0, len(draft) - (not row.fresh)) for row, draft in pairs]
        for number in asked:
            lengths[number] = MOST_DRAFTED
        if not any(lengths) or not any(self._widths(rows, lengths, asked)):
            return False
        self._guessed = {row: draft[0] for row, draft in pairs if draft and not row.fresh}
        return True

    def attempts(self, rows: Rows) -> list[Attempt]:
        """What each row tries, which may be nothing; all tokens chosen so far are known."""
        for row, token in self._guessed.items():
            row.record.note(1, int(row.feed == token))
        self._guessed = {}
        drafts = [self._draft(row, MOST_DRAFTED) for row in rows]
        asked = self._asked(rows, drafts)
        rooms = [max(0, row.limit - row.chosen - 1) for row in rows]  # one comes anyway
        lengths = [min(len(draft), room) for draft, room in zip(drafts, rooms, strict=True)]
        for number in asked:
            lengths[number] = min(MOST_DRAFTED, rooms[number])
        if any(lengths):
            lengths = self._widths(rows, lengths, asked)
        if wanted := {number: lengths[number] for number in asked if lengths[number]}:
            self._have_drafted([asked[number] for number in wanted], max(wanted.values()))
            for number, length in wanted.items():
                drafts[number] = self._draft(rows[number], length)
        return [
            _attempt(row, draft[:length])
            for row, draft, length in zip(rows, drafts, lengths, strict=True)
        ]

    def note(self, row: Sequence, drafted: int, accepted: int) -> None:
        """Of so many tokens that a row has tried, so many were what it said."""
        self.drafted += drafted
        self.accepted += accepted
        row.record.note(drafted, accepted)

    @contextlib.contextmanager
    def failing_for_good(self) -> Iterator[None]:
        """What fails in a pass with drafts may be wider than there is memory for. Its rows begin
        anew, without any: nobody loses an answer for them."""
        try:
            yield
        except Exception:
            self.on = False
            log.warning("a pass with drafts has failed: nothing is drafted any more")
            raise

    def _drafts_of(self, row: Sequence) -> Drafts:
        if not self._asks or self.draft_model is None:
            return row.drafts or self.drafter(row)
        said, expected = row.output_tokens, row.request.prompt.prediction
        followed = self.draft_model.follow(row.prompt_ids, said, row.rules)
        self._followed[row] = followed
        return FirstOf(Prediction(expected, said), followed) if expected else followed

    def _asked(self, rows: Rows, drafts: Several[list[int]]) -> dict[int, Continuation]:
        """The rows, by number, whose drafts the draft model can make now."""
        if self.draft_model is None or not self._followed:
            return {}
        pairs = enumerate(zip(rows, drafts, strict=True))
        wanting = {
            number: self._followed[row]
            for number, (row, draft) in pairs
            if not draft and row in self._followed and row.state is State.DECODING
        }
        with self._doing_without():
            self.draft_model.read_on(list(wanting.values()))
        model = self.draft_model
        return {n: one for n, one in wanting.items() if model is not None and model.is_ready(one)}

    def _have_drafted(self, rows: Several[Continuation], most: int) -> None:
        if self.draft_model is not None:
            with self._doing_without():
                self.draft_model.draft(rows, most)

    @contextlib.contextmanager
    def _doing_without(self) -> Iterator[None]:
        """The boundary of the draft model: models fail in their own ways, and no answer depends on
        this one."""
        try:
            yield
        except Exception:
            self.draft_model = None
            self._followed = {}
            log.warning("the draft model has failed: it is not asked any more", exc_info=True)

    def _draft(self, row: Sequence, most: int) -> list[int]:
        """As much of it as a row may say: pictures' placeholders are no words."""
        if row.drafts is None or row.state is not State.DECODING:
            return []
        draft = row.drafts.draft(most)
        for number, token in enumerate(draft):
            if not 0 <= token < self._model.vocabulary or token in self._model.family.placeholders:
                return draft[:number]
        return draft

    def _widths(self, rows: Rows, lengths: Several[int], asked: Collection[int]) -> list[int]:
        """Within the context, too: those without a draft are computed as wide as those with one."""
        chosen = widths(lengths, [row.record for row in rows], self.costs, asked)
        context_tokens = self._model.context_tokens
        if context_tokens is None:
            return chosen
        most = max(0, context_tokens - max(row.fed for row in rows) - 1)
        return [min(length, most) for length in chosen]


def foreseen(row: Sequence) -> Drafts:
    """Drafts from what the client expects, and from the row's own prompt and answer."""
    said, expected = row.output_tokens, row.request.prompt.prediction
    lookup = Lookup([*row.prompt_ids, *said], min(row.limit, MOST_FORESEEN) - len(said))
    return FirstOf(Prediction(expected, said), lookup) if expected else lookup


def _attempt(row: Sequence, draft: list[int]) -> Attempt:
    if row.grammar is None:
        return Attempt(draft, [])
    masks = row.grammar.along(draft)
    return Attempt(draft[: len(masks) - 1], masks)

"""One answer on its way: what it is called from its prompt's first reading to its last token.

    PREPARING ──▶ WAITING ──▶ PREFILLING ──▶ DECODING ──▶ FINISHED
                     ▲            ▲             │
                     │            └─ step failed ┤
                     └─────── memory runs short ─┘

A sequence leaves any state for FINISHED when its answer is complete, fails or is cancelled. While
it is DECODING it is a row of the batch, which keeps here how far it has come with it.
"""

from __future__ import annotations

import enum
from collections import abc
from dataclasses import dataclass
from typing import TYPE_CHECKING

import mlx.core as mx
import numpy as np

from shared.messages import Resume
from worker.engine.cache.keys import Key
from worker.engine.drafts.policy import Record
from worker.engine.drafts.source import Drafts
from worker.engine.prepare.grammar import GrammarState
from worker.engine.sampling.sampling import Rules
from worker.engine.text.answer import Answer, Piece

if TYPE_CHECKING:
    from worker.engine.schedule.request import Request


class State(enum.Enum):
    PREPARING = "its prompt is being read"
    WAITING = "waiting for rows and memory"
    PREFILLING = "its tokens are on their way into a cache"
    DECODING = "a row of the batch"
    FINISHED = "over"


LEGAL_MOVES: dict[State, frozenset[State]] = {
    State.PREPARING: frozenset({State.WAITING, State.FINISHED}),
    State.WAITING: frozenset({State.PREFILLING, State.FINISHED}),
    # Anew when a step has failed that another sequence of its request was in.
    State.PREFILLING: frozenset({State.DECODING, State.PREFILLING, State.WAITING, State.FINISHED}),
    # Back to WAITING when memory runs short and it is the youngest.
    State.DECODING: frozenset({State.PREFILLING, State.WAITING, State.FINISHED}),
    State.FINISHED: frozenset(),
}


class Sequence:
    """One choice of a request.

    Attributes:
        index: which of the request's choices it is.
        answer: what it says; like `rules` and `grammar` there from WAITING on.
        rules: how its tokens are chosen.
        logprobs: None, or how many alternatives to each token are wanted.
        grammar: what its answer must look like; None: anything goes.
        drafts: where drafts of its next tokens come from; None: nowhere.
        record: what became of them.
        feed: as a row: the token to be fed next, of those that the host knows.
        rope_delta: as a row: [1, 1] for models with multimodal positions, else None.
        fed: as a row: how many tokens its cache holds.
        chosen: as a row: how many tokens have been chosen for its answer, known on the host or
            not.
        fresh: as a row: whether none of these was chosen since it joined the batch.
    """

    answer: Answer
    rules: Rules

    def __init__(self, request: Request, index: int) -> None:
        self.request = request
        self.index = index
        self.state = State.PREPARING
        self.logprobs = request.job.logprobs
        self.grammar: GrammarState | None = None
        self.drafts: Drafts | None = None
        self.record = Record()
        self.feed = 0
        self.rope_delta: mx.array | None = None
        self.fed = 0
        self.chosen = 0
        self.fresh = True

    def move(self, state: State) -> None:
        if state not in LEGAL_MOVES[self.state]:
            raise AssertionError(f"illegal move of a sequence: {self.state.name} to {state.name}")
        self.state = state

    # --- what it says ----------------------------------------------------------------------------

    @property
    def output_tokens(self) -> list[int]:
        """The answer's tokens that are known on the host."""
        return self.answer.tokens

    @property
    def complete(self) -> bool:
        """Whether its answer has come to an end: it is not FINISHED for another reason."""
        return self.answer.finish_reason is not None

    def begin(
        self, answer: Answer, rules: Rules, grammar: GrammarState | None, resume: Resume | None
    ) -> None:
        """Its prompt has been read. With `resume`, go over tokens that the client has already."""
        self.answer, self.rules, self.grammar = answer, rules, grammar
        self._place_grammar()
        if resume is not None:
            for token in resume.tokens:
                if self.complete:
                    break
                self._say(token)
            answer.finish_reason = resume.finish_reason or answer.finish_reason
        self.move(State.FINISHED if self.complete else State.WAITING)

    def push(self, token: int) -> Piece:
        """Take the next token; the last one finishes the sequence."""
        piece = self._say(token)
        if self.drafts is not None:
            self.drafts.push(token)
        if self.complete:
            self.move(State.FINISHED)
        return piece

    def _say(self, token: int) -> Piece:
        """The grammar holds only once the model has done thinking."""
        if self.grammar is not None:
            self.grammar.accept(token)
        piece = self.answer.push(token)
        self._place_grammar()
        return piece

    def _place_grammar(self) -> None:
        if self.grammar is not None:
            self.grammar.active = not self.answer.thinking
            self.grammar.at_head = self.answer.at_head

    # --- as a row of the batch -------------------------------------------------------------------

    def begin_decoding(self, feed: int, fed: int, rope_delta: mx.array | None) -> None:
        """Its tokens but the last one, which is `feed`, are in a cache that holds `fed`."""
        self.move(State.DECODING)
        self.feed, self.fed, self.rope_delta = feed, fed, rope_delta
        self.chosen, self.fresh = len(self.output_tokens), True

    @property
    def prompt_ids(self) -> list[int]:
        return self.request.taken.ids

    @property
    def limit(self) -> int:
        """Most tokens of its answer."""
        return self.answer.limit

    def cache_key(self) -> Key | None:
        """The prefix cache's key for what its cache holds; None if that is not known."""
        count = self.fed - len(self.prompt_ids)
        if not 0 <= count <= len(self.output_tokens):
            return None
        said = np.array(self.output_tokens[:count], np.int64)
        return np.concatenate([self.request.taken.key, said])


Rows = abc.Sequence[Sequence]


@dataclass(frozen=True)
class Chosen:
    """A row's next token. `alternatives` are (token, logprob), likeliest first."""

    row: Sequence
    token: int
    logprob: float = 0.0
    alternatives: abc.Sequence[tuple[int, float]] = ()

"""Tries what the engine may do with a model before it serves it.

An answer of the engine is held against mlx-vlm's own, token for token along what the engine said.
First everything is tried at once. Where something disagrees, all is switched off, and on again one
ability after the other: what agrees keeps it, else the model is served without it. A model whose
answer to a text alone does not agree is not served.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

import mlx.core as mx

from worker.engine.engine import MlxEngine
from worker.engine.interface import ModelError, Trying
from worker.engine.model.family import Abilities
from worker.engine.options import EngineOptions
from worker.engine.prepare.preprocess import Preprocessor, Prompt
from worker.engine.proof.agreement import Said, agree, differences
from worker.engine.proof.asking import Asking
from worker.engine.proof.drafted import Known
from worker.engine.proof.lengths import (
    COST,
    SPARE_WORDS,
    Beyond,
    beyond,
    lengths_of,
    words_of,
)
from worker.engine.proof.plain import Plain
from worker.engine.proof.questions import (
    CHANGED,
    PICTURE,
    PICTURE_LATER,
    PICTURES,
    TEXT,
    TEXT_LATER,
    Question,
)
from worker.engine.proof.stages import (
    PICTURES_ALONE,
    SEVERAL,
    TEXT_ALONE,
    Round,
    Stage,
    all_at_once,
    all_beyond,
    alone,
    drafts,
    later_stages,
    tried_at_once,
)

log = logging.getLogger(__name__)

CACHE_BYTES = 256 << 20
PIECES, LEAST_PIECE = 6, 8
"""Into how many pieces a round's longest prompt is cut, and their fewest tokens."""
BEYOND_S = 30.0
"""For prompts beyond the lengths that a model declares."""


@dataclass(frozen=True)
class Proof:
    """
    Attributes:
        abilities: what the model is served with.
        proven: what was tried, and whether it held.
        reasons: why what did not hold did not.
        untried: the shortest length of a prompt, in tokens, that the model declares to make a
            difference and that would have taken too long to try; 0: none.
        seconds: how long it took.
        lengthens: as the model's.
    """

    abilities: Abilities
    proven: Mapping[str, bool] = field(default_factory=dict)
    reasons: Mapping[str, str] = field(default_factory=dict)
    untried: int = 0
    seconds: float = 0.0
    lengthens: bool = False


class Disagreement(Exception):
    """An answer is not mlx-vlm's; says where."""


def prove(
    engine: MlxEngine,
    options: EngineOptions,
    trying: Trying = lambda what: None,
    *,
    in_full: bool = False,
) -> Proof:
    """Try everything; leaves the engine to be begun anew.

    Args:
        trying: hears of each question before it is asked.
        in_full: one ability after the other also where there is no fault: more questions.

    Raises:
        ModelError: the model's answers to texts alone are not mlx-vlm's own, or there are none.
    """
    with _quiet():
        return _Trial(engine, options, trying).run(in_full=in_full)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """What fails here is part of the trial, and said in one line when it is over."""
    ours = logging.getLogger("worker.engine")
    before = ours.level
    if not log.isEnabledFor(logging.DEBUG):
        ours.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        ours.setLevel(before)


class _Trial:
    def __init__(self, engine: MlxEngine, options: EngineOptions, trying: Trying) -> None:
        self._engine = engine
        self._trying = trying
        self._model = engine.model
        self._options = replace(
            options,
            prefix_cache_bytes=CACHE_BYTES,
            max_rows=64,
            largest_piece=None,
            steady=True,
            speculate="off",
        )
        self._proven: dict[str, bool] = {}
        self._reasons: dict[str, str] = {}
        self._mlx_vlm = Plain(engine.model)
        self._plain: dict[tuple[str, tuple[int, ...]], mx.array] = {}
        self._abilities = engine.model.family.abilities
        self._raw = False
        self._lengths = lengths_of(engine.model)
        self._long: list[Beyond] = []
        self._untried = 0
        self._until = 0.0
        self._lengthens = False
        self._prompts: dict[str, Prompt] = {}

    def run(self, *, in_full: bool) -> Proof:
        started = time.perf_counter()
        context, self._model.context_tokens = self._model.context_tokens, None
        try:
            self._raw = not self._has_template()
            if in_full or not self._try_all_at_once():
                self._try_each()
            self._try_speculation()
        finally:
            self._model.context_tokens = context
        seconds = time.perf_counter() - started
        told = self._untried, seconds, self._lengthens
        return Proof(self._abilities, self._proven, self._reasons, *told)

    def _has_template(self) -> bool:
        """Whether a plain conversation can be written down."""
        try:
            self._engine.writer.write(TEXT[0].job("plain", raw=False))
        except Exception:  # a boundary: templates raise what they like
            log.debug("proof: texts are asked without the template", exc_info=True)
            return False
        return True

    def _try_all_at_once(self) -> bool:
        self._abilities = self._model.family.abilities.without("speculation")
        self._try(all_at_once(self._model, self._turns()))
        if self._proven["text"] and self._abilities.pictures and self._unseen():
            self._proven["text"] = False
        if self._proven["text"]:
            for asked in self._beyond():
                self._try(all_beyond(asked))
                if not self._proven["text"]:
                    break
        if self._proven["text"]:
            self._proven |= dict.fromkeys(tried_at_once(self._model), True)
            return True
        log.debug("proof: one ability after the other, since %s", self._reasons.get("text"))
        return False

    def _try_each(self) -> None:
        self._proven, self._reasons = {}, {}
        self._abilities = Abilities(**dict.fromkeys(Abilities().as_dict(), False))
        self._try_text()
        if self._model.family.abilities.pictures:
            self._try_pictures()
        for stage in later_stages(self._model, self._abilities, self._turns(), self._long):
            self._try(stage)
            if self._abilities.prefix_cache and self._proven.get("pieces") is False:
                # A prompt that goes on from a prefix is computed in pieces, cut where no question
                # here may have been.
                self._abilities = self._abilities.without("prefix_cache")
                self._note("prefix_cache", f"pieces are off: {self._reasons['pieces']}")

    def _turns(self) -> list[Question]:
        return [later for later in (TEXT_LATER, PICTURE_LATER) if self._can_be_asked(later)]

    def _can_be_asked(self, question: Question) -> bool:
        """Whether the model has words for this: not all take several turns."""
        if question.pictures and not self._abilities.pictures:
            return False
        self._model.allow(self._abilities, CACHE_BYTES)
        try:
            self._prompt(question)
        except Exception:  # a boundary: templates raise what they like
            log.debug("proof: %s is not asked", question.name, exc_info=True)
            return False
        return True

    # --- what comes first ------------------------------------------------------------------------

    def _try_text(self) -> None:
        try:
            self._plain_answer(TEXT[0], [0])
        except Exception as error:
            # A boundary: mlx-vlm's models fail in their own ways.
            log.debug("proof: mlx-vlm alone has failed", exc_info=True)
            raise ModelError(f"mlx-vlm itself cannot answer with this model: {error}") from error
        self._try(TEXT_ALONE)
        for asked in self._beyond():
            if self._proven["text"]:
                self._try(Stage("text", alone(asked.whole)))
        if not self._proven["text"]:
            raise ModelError(
                "This model is not served: what it answers here is not what mlx-vlm itself "
                f"answers ({self._reasons['text']})."
            )

    def _beyond(self) -> Iterator[Beyond]:
        """Prompts beyond what the model declares; the shortest first, as long as time is left."""
        yield from self._long
        self._until = self._until or time.perf_counter() + BEYOND_S
        while self._lengths:
            length = self._lengths.pop(0)
            if COST * length * self._mlx_vlm.seconds_a_token > self._until - time.perf_counter():
                self._untried, self._lengths = length, []
                return
            self._long.append(beyond(length, words_of(self._model, 2 * length + SPARE_WORDS)))
            yield self._long[-1]

    def _try_pictures(self) -> None:
        self._model.allow(self._model.family.abilities, CACHE_BYTES)
        reason = self._unfit(PICTURE) or self._unseen()
        if reason is None:
            self._try(PICTURES_ALONE)
        else:
            self._note("pictures", reason)
        if not self._abilities.pictures:
            self._note("several_pictures", "pictures are off")
            return
        self._model.allow(self._model.family.abilities, CACHE_BYTES)
        if not self._model.family.abilities.several_pictures:
            self._note("several_pictures", "mlx-vlm's model looks at one picture in a prompt")
            return
        reason = self._unfit(PICTURES)
        if reason is None:
            self._try(SEVERAL)
        else:
            self._note("several_pictures", reason)

    def _unfit(self, question: Question) -> str | None:
        """Why there is nothing to hold the engine's answer against."""
        try:
            first = self._plain_answer(question, [0])
            self._plain.clear()
            second = self._plain_answer(question, [0])
        except Exception as error:
            # A boundary: as above, and its processor.
            log.debug("proof: mlx-vlm alone has failed", exc_info=True)
            return f"mlx-vlm itself cannot answer about {question.name}: {error}"
        if not bool(mx.isfinite(first).any()) or not mx.allclose(first, second, atol=1e-2).item():
            return f"mlx-vlm itself says one thing and then another about {question.name}"
        return None

    def _unseen(self) -> str | None:
        one, other = (self._first_word(question) for question in (PICTURE, CHANGED))
        same = bool(mx.array_equal(one, other))
        return "mlx-vlm's answers do not depend on the picture" if same else None

    def _first_word(self, question: Question) -> mx.array:
        """What mlx-vlm makes of the prompt itself, whatever answer it was led along."""
        known = (plain for (name, _), plain in self._plain.items() if name == question.name)
        found = next(known, None)
        return self._plain_answer(question, [0])[0] if found is None else found[0]

    def _try_speculation(self) -> None:
        if not self._model.family.abilities.speculation:
            self._note("speculation", "its caches cannot take tokens back")
        elif not self._abilities.batching:
            self._note("speculation", "batching is off")
        else:
            self._try(drafts(self._abilities, self._long))

    # --- one ability after the other -------------------------------------------------------------

    def _try(self, stage: Stage) -> None:
        before = self._abilities
        if stage.ability != "text":
            self._abilities = replace(before, **{stage.ability: True})
        asking = Asking(self._engine, raw=self._raw)
        try:
            self._begin_anew(stage.rounds[0])
            for turn in stage.rounds:
                self._hold(asking, turn)
        except Exception as error:
            # A boundary: an ability that raises is one that the model does without.
            log.debug("proof: %s does not hold", stage.ability, exc_info=True)
            self._abilities = before
            self._note(stage.ability, str(error) or type(error).__name__)
        else:
            self._proven[stage.ability] = True
        finally:
            asking.close()
            self._lengthens |= asking.lengthens

    def _note(self, ability: str, reason: str) -> None:
        self._proven[ability] = False
        self._reasons[ability] = " ".join(reason.split())

    def _begin_anew(self, turn: Round) -> None:
        self._model.allow(self._abilities, CACHE_BYTES)
        piece = self._piece(turn) if turn.in_pieces and self._abilities.pieces else None
        self._engine.begin_anew(replace(self._options, largest_piece=piece))

    def _piece(self, turn: Round) -> int:
        prompts = [self._prompt(question) for question in (*turn.together, *turn.joining)]
        return max(LEAST_PIECE, max(len(prompt.ids) for prompt in prompts) // PIECES)

    def _hold(self, asking: Asking, turn: Round) -> None:
        """Ask, and hold the answers against mlx-vlm's."""
        if turn.cold:
            self._begin_anew(turn)
        names = ", ".join(question.name for question in (*turn.together, *turn.joining))
        self._trying(f"it was proven ({turn.words}: {names})")
        for question, said in self._answers(asking, turn):
            self._compare(question, said, turn)
        speculation = self._engine.speculation
        if turn.drafted and not speculation.on:
            raise Disagreement("a pass with drafts has failed")
        if turn.drafted and not 0 < speculation.accepted < speculation.drafted:
            raise Disagreement("of tokens that were drafted, not some were taken and others not")

    def _answers(self, asking: Asking, turn: Round) -> list[tuple[Question, Said]]:
        if not turn.drafted:
            return asking.ask(turn.together, turn.joining, apart=turn.apart)
        speculation, drafter = self._engine.speculation, self._engine.speculation.drafter
        self._engine.begin_anew(self._options)
        before = asking.ask(turn.together, longer=True)
        speculation.drafter = Known([said.tokens for _, said in before])
        self._engine.begin_anew(replace(self._options, speculate="lookup"))
        try:
            return asking.ask(turn.together, longer=True)
        finally:
            speculation.drafter = drafter

    def _compare(self, question: Question, said: Said, turn: Round) -> None:
        plain = self._plain_answer(question, said.tokens)
        off = differences(said, plain)
        if not agree(off, plain.dtype):
            place = off.index(max(off)) + 1
            raise Disagreement(
                f"{question.name}, {turn.words}: token {place} is off by {max(off):.2g} of the "
                "spread of its logits"
            )

    def _plain_answer(self, question: Question, tokens: list[int]) -> mx.array:
        """[tokens, vocabulary]: what it thinks along these, or along more that begin with them."""
        wanted = tuple(tokens)
        for (name, known), plain in self._plain.items():
            if name == question.name and known[: len(wanted)] == wanted:
                return plain[: len(wanted)]
        prompt = self._prompt(question)
        self._trying(f"mlx-vlm itself answered {question.name}")
        plain = self._mlx_vlm.logprobs(prompt, question.pictures, tokens)
        self._plain[question.name, wanted] = plain
        return plain

    def _prompt(self, question: Question) -> Prompt:
        if question.name not in self._prompts:
            reader = Preprocessor(self._model, self._engine.writer)
            job = question.job("plain", raw=self._raw)
            self._prompts[question.name] = reader.prepare(job, question.pictures)
        return self._prompts[question.name]

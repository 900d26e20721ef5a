"""A job inside the engine: its sequences, what it has cost, what its client is told."""

from __future__ import annotations

import time
from collections import abc

from shared.messages import Delta, Done, Failed, Job, TokenLogprob, Usage
from shared.messages import Timings as TimingsMessage
from worker.engine.drafts.prediction import Prediction
from worker.engine.faults import JobFault
from worker.engine.model.config import SamplingDefaults
from worker.engine.prepare.grammar import GrammarState
from worker.engine.prepare.preprocess import Prompt, check_length
from worker.engine.sampling.sampling import NOTHING, rules_for
from worker.engine.schedule.sequences import Chosen, Sequence, State
from worker.engine.text.answer import Answer, Language, Piece
from worker.engine.text.detokenizer import Vocabulary

NO_LIMIT = 1 << 30

ECHO_CHARACTERS = 1 << 20
"""Of a prompt that is repeated, in one delta: what is told to a gateway at once has a limit."""


class Request:
    """What the engine was asked, from `submit` to `Done` or `Failed`.

    Attributes:
        prompt: there once it has been read.
        taken: the prompt as the model took it, as long as what it made of it.
        sequences: one for each choice, in order.
        failures: how many failed steps it was in.
        set_aside: whether it had to wait again after it had begun, for memory.
        drafted, accepted: tokens of its answers that were tried before they were known, and how
            many of them came.
        cached_tokens: how many of the prompt's tokens a cache has spared it.
        unsplit: its prompt had to be prefilled in one piece, and is of no use to other prompts.
    """

    prompt: Prompt
    taken: Prompt

    def __init__(self, job: Job) -> None:
        self.job = job
        self.sequences = [Sequence(self, index) for index in range(job.choices)]
        self.failures = 0
        self.set_aside = False
        self.drafted = self.accepted = 0
        self.cached_tokens = 0
        self.prefill_s = 0.0
        self.vision_s = 0.0
        self.unsplit = False
        self._submitted_at = time.perf_counter()
        self._first_token_at: float | None = None
        self._next_sequence = 0

    def begin(
        self,
        prompt: Prompt,
        grammar: GrammarState | None,
        language: Language,
        defaults: SamplingDefaults,
        context_tokens: int | None,
    ) -> None:
        """The prompt has been read: set up the answers. Those of a resumed job go on where they
        were."""
        self.prompt = self.taken = prompt
        self._defaults, self._context_tokens = defaults, context_tokens
        limit = answer_limit(self.job, defaults, len(prompt.ids), context_tokens)
        resumes = dict(enumerate(self.job.resume))
        for index, sequence in enumerate(self.sequences):
            sequence.begin(
                Answer(language, self.job, index, prompt.marked, limit),
                rules_for(self.job.sampling, defaults, index),
                grammar.fork() if grammar is not None else None,
                resumes.get(index),
            )

    def take_prompt(self, prompt: Prompt) -> None:
        """Go by the prompt as the model has taken it: what it made of it may be longer.

        Raises:
            JobFault: there is no room for an answer.
        """
        self.taken = prompt
        length, limit = len(prompt.ids), self._context_tokens
        check_length(length, limit, self.job)
        for sequence in self.unfinished:
            sequence.answer.limit = answer_limit(self.job, self._defaults, length, limit)

    @property
    def unfinished(self) -> list[Sequence]:
        return [sequence for sequence in self.sequences if sequence.state is not State.FINISHED]

    def give_up(self) -> None:
        """It has failed, or nobody wants it any more."""
        for sequence in self.unfinished:
            sequence.move(State.FINISHED)

    # --- what the client is told -----------------------------------------------------------------

    def opening(self) -> list[Delta]:
        """Deltas due before any token: the echoed prompt, and choices that need no more."""
        known = [resume.finish_reason for resume in self.job.resume]
        if self.job.echo and not self.job.resume:
            text = self.prompt.text
            parts = [text[at : at + ECHO_CHARACTERS] for at in range(0, len(text), ECHO_CHARACTERS)]
            return [self._delta(one, [], Piece(part)) for one in self.sequences for part in parts]
        return [
            self._delta(one, [], Piece(finish_reason=one.answer.finish_reason))
            for one in self.sequences
            if one.complete and (one.index >= len(known) or known[one.index] is None)
        ]

    def take(self, chosen: Chosen, vocabulary: Vocabulary) -> Delta:
        """Take a token of one sequence.

        Raises:
            JobFault: there is none that could come next.
        """
        if chosen.token == NOTHING:
            words = "No token can come next: the model's numbers are none, or all are ruled out."
            raise JobFault("internal_error", words)
        if self._first_token_at is None:
            self._first_token_at = time.perf_counter()
        sequence = chosen.row
        piece = sequence.push(chosen.token)
        logprobs = []
        if self.job.logprobs is not None and not _is_end(sequence.answer, chosen.token):
            logprobs = [_token_logprob(chosen, vocabulary)]
        return self._delta(sequence, [chosen.token], piece, logprobs)

    def done(self) -> Done:
        now = time.perf_counter()
        first = self._first_token_at if self._first_token_at is not None else now
        answers = [sequence.answer for sequence in self.sequences]
        expected = self.prompt.prediction
        followed = [Prediction(expected, one.tokens) for one in answers if expected]
        usage = Usage(
            prompt_tokens=len(self.taken.ids),
            completion_tokens=sum(len(answer.tokens) for answer in answers),
            cached_tokens=min(self.cached_tokens, len(self.taken.ids)),
            image_tokens=self.taken.image_tokens,
            reasoning_tokens=sum(answer.reasoning_tokens for answer in answers),
            accepted_prediction_tokens=sum(one.accepted for one in followed),
            rejected_prediction_tokens=sum(one.rejected for one in followed),
            drafted_tokens=self.drafted,
            accepted_draft_tokens=self.accepted,
        )
        timings = TimingsMessage(
            preprocess_s=self.prompt.seconds,
            vision_s=self.vision_s,
            prefill_s=self.prefill_s,
            first_token_s=first - self._submitted_at,
            decode_s=now - first,
            total_s=now - self._submitted_at,
        )
        stops = [answer.stop for answer in answers]
        return Done(
            job=self.job.id, usage=usage, timings=timings, stops=stops if any(stops) else []
        )

    def _delta(
        self,
        sequence: Sequence,
        tokens: list[int],
        piece: Piece,
        logprobs: abc.Sequence[TokenLogprob] = (),
    ) -> Delta:
        delta = Delta(
            self.job.id,
            self._next_sequence,
            sequence.index,
            tokens,
            piece.text,
            piece.finish_reason,
            piece.reasoning,
            piece.tool_calls,
            list(logprobs),
        )
        self._next_sequence += 1
        return delta


def answer_limit(
    job: Job, defaults: SamplingDefaults, prompt_tokens: int, context_tokens: int | None
) -> int:
    """Most tokens of an answer within the context: what was asked for, or the model's default."""
    wanted = (defaults.max_new_tokens or NO_LIMIT) if job.max_tokens is None else job.max_tokens
    room = NO_LIMIT if context_tokens is None else context_tokens - prompt_tokens
    return max(1, min(wanted, room))


def _is_end(answer: Answer, token: int) -> bool:
    """Whether this token said nothing but that the answer ends."""
    return answer.finish_reason in ("stop", "tool_calls") and answer.is_end(token)


def failed(job_id: str, fault: JobFault) -> Failed:
    prompt_tokens, context_tokens = fault.lengths or (None, None)
    return Failed(
        job=job_id,
        code=fault.code,
        message=fault.message,
        param=fault.param,
        prompt_tokens=prompt_tokens,
        context_tokens=context_tokens,
    )


def _token_logprob(chosen: Chosen, vocabulary: Vocabulary) -> TokenLogprob:
    def words(token: int) -> tuple[str, list[int]]:
        data = vocabulary.bytes_of(token)
        return data.decode("utf-8", "replace"), list(data)

    text, data = words(chosen.token)
    top = [(*words(token), logprob) for token, logprob in chosen.alternatives]
    return TokenLogprob(text, data, chosen.logprob, top)

"""A job inside the engine: its choices, what it has cost, what its client is told."""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np

from shared.messages import Delta, Done, Failed, Job, TokenLogprob, Usage
from shared.messages import Timings as TimingsMessage
from worker.engine.cache.prefix import Key
from worker.engine.faults import JobFault
from worker.engine.model.model import SamplingDefaults
from worker.engine.prepare.grammar import GrammarState
from worker.engine.prepare.preprocess import Prompt
from worker.engine.schedule.batch import Chosen, Row
from worker.engine.schedule.prefill import Prefill
from worker.engine.schedule.sampling import Rules, rules_for
from worker.engine.text.answer import Answer, Language, Piece
from worker.engine.text.detokenizer import Vocabulary

NO_LIMIT = 1 << 30


class Choice:
    """One answer of a job, and its place in the decode batch while it has one."""

    def __init__(
        self, task: Task, index: int, answer: Answer, rules: Rules, grammar: GrammarState | None
    ) -> None:
        self.task = task
        self.index = index
        self.answer = answer
        self.grammar = grammar
        self._rules = rules
        self.row: Row | None = None

    @property
    def finished(self) -> bool:
        return self.answer.finish_reason is not None

    def push(self, token: int) -> Piece:
        """Take the next token; the grammar holds only once the model has done thinking."""
        if self.grammar is not None:
            self.grammar.accept(token)
        piece = self.answer.push(token)
        if self.grammar is not None:
            self.grammar.active = not self.answer.thinking
        return piece

    def replay(self, tokens: Sequence[int]) -> None:
        """Go over tokens that the client has had already."""
        for token in tokens:
            if self.finished:
                return
            self.push(token)

    def make_row(self, prefill: Prefill) -> Row:
        """A row for the batch that goes on after the prefilled tokens."""
        self.row = Row(
            name=self,
            rules=self._rules,
            prompt=self.task.prompt.ids,
            output_tokens=self.answer.tokens,
            feed=prefill.tokens[-1],
            rope_delta=prefill.embedded.rope_delta if prefill.embedded is not None else None,
            logprobs=self.task.job.logprobs,
            grammar=self.grammar,
            limit=self.answer.limit,
            fed=prefill.target,
            chosen=len(self.answer.tokens),
        )
        return self.row


class Task:
    """
    Args:
        submitted_at: when the job came in (`time.perf_counter`).

    Attributes:
        unsplit: its prompt had to be prefilled in one piece, and is of no use to other prompts.
    """

    def __init__(self, job: Job, prompt: Prompt, submitted_at: float) -> None:
        self.job = job
        self.prompt = prompt
        self.choices: list[Choice] = []
        self.failures = 0
        self.cached_tokens = 0
        self.prefill_s = 0.0
        self.vision_s = 0.0
        self.unsplit = False
        self._submitted_at = submitted_at
        self._first_token_at: float | None = None
        self._sequence = 0

    def make_choices(
        self,
        language: Language,
        defaults: SamplingDefaults,
        grammar: GrammarState | None,
        context_tokens: int | None,
    ) -> None:
        """Set up the answers; those of a resumed job go on where they were.

        Raises:
            JobFault: the request's figures leave no room for an answer.
        """
        limit = answer_limit(self.job, len(self.prompt.ids), context_tokens)
        for index in range(self.job.choices):
            answer = Answer(language, self.job, index, self.prompt.text, limit)
            state = grammar.fork() if grammar is not None else None
            if state is not None:
                state.active = not answer.thinking
            rules = rules_for(self.job.sampling, defaults, index)
            choice = Choice(self, index, answer, rules, state)
            if index < len(self.job.resume):
                resume = self.job.resume[index]
                choice.replay(resume.tokens)
                answer.finish_reason = resume.finish_reason or answer.finish_reason
            self.choices.append(choice)

    @property
    def unfinished(self) -> list[Choice]:
        return [choice for choice in self.choices if not choice.finished]

    def key_of(self, row: Row) -> Key | None:
        """The prefix cache's key for what the row's cache holds; None if that is not known."""
        count = row.fed - len(self.prompt.ids)
        if not 0 <= count <= len(row.output_tokens):
            return None
        return np.concatenate([self.prompt.key, np.array(row.output_tokens[:count], np.int64)])

    # --- what the client is told -----------------------------------------------------------------

    def opening(self) -> list[Delta]:
        """Deltas due before any token: the echoed prompt, and choices that need no more."""
        known = [resume.finish_reason for resume in self.job.resume]
        if self.job.echo and not self.job.resume:
            return [self._delta(choice, [], Piece(self.prompt.text)) for choice in self.choices]
        return [
            self._delta(choice, [], Piece(finish_reason=choice.answer.finish_reason))
            for choice in self.choices
            if choice.finished and (choice.index >= len(known) or known[choice.index] is None)
        ]

    def take(self, choice: Choice, chosen: Chosen, vocabulary: Vocabulary) -> Delta:
        """Take a token of one choice."""
        if self._first_token_at is None:
            self._first_token_at = time.perf_counter()
        piece = choice.push(chosen.token)
        logprobs = []
        if self.job.logprobs is not None and not self._is_end(choice, chosen.token):
            logprobs = [_token_logprob(chosen, vocabulary)]
        return self._delta(choice, [chosen.token], piece, logprobs)

    def done(self) -> Done:
        now = time.perf_counter()
        first = self._first_token_at if self._first_token_at is not None else now
        answers = [choice.answer for choice in self.choices]
        usage = Usage(
            prompt_tokens=len(self.prompt.ids),
            completion_tokens=sum(len(answer.tokens) for answer in answers),
            cached_tokens=min(self.cached_tokens, len(self.prompt.ids)),
            image_tokens=self.prompt.image_tokens,
            reasoning_tokens=sum(answer.reasoning_tokens for answer in answers),
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

    def _is_end(self, choice: Choice, token: int) -> bool:
        """Whether this token said nothing but that the answer ends."""
        return choice.answer.finish_reason in ("stop", "tool_calls") and choice.answer.is_end(token)

    def _delta(
        self,
        choice: Choice,
        tokens: list[int],
        piece: Piece,
        logprobs: Sequence[TokenLogprob] = (),
    ) -> Delta:
        delta = Delta(
            self.job.id,
            self._sequence,
            choice.index,
            tokens,
            piece.text,
            piece.finish_reason,
            piece.reasoning,
            piece.tool_calls,
            list(logprobs),
        )
        self._sequence += 1
        return delta


def answer_limit(job: Job, prompt_tokens: int, context_tokens: int | None) -> int:
    """Most tokens of an answer: what was asked for, within the context."""
    wanted = NO_LIMIT if job.max_tokens is None else job.max_tokens
    room = NO_LIMIT if context_tokens is None else context_tokens - prompt_tokens
    return max(1, min(wanted, room))


def failed(job_id: str, fault: JobFault) -> Failed:
    return Failed(job=job_id, code=fault.code, message=fault.message, param=fault.param)


def _token_logprob(chosen: Chosen, vocabulary: Vocabulary) -> TokenLogprob:
    def words(token: int) -> tuple[str, list[int]]:
        data = vocabulary.bytes_of(token)
        return data.decode("utf-8", "replace"), list(data)

    text, data = words(chosen.token)
    top = [(*words(token), logprob) for token, logprob in chosen.alternatives]
    return TokenLogprob(text, data, chosen.logprob, top)

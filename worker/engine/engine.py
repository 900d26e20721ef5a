"""The engine: takes jobs, gives events, with one thread's calls in between.

Every job becomes a `Request` with a `Sequence` for each of its choices (`schedule/sequences.py`).
It can be cancelled in any state, and what goes wrong in any state is its own failure alone. Only a
failed decode step concerns all rows: its batch is thrown away and every row is prefilled again from
its tokens, each tried alone first, so that the culprit is found and the others go on.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections import abc, deque
from collections.abc import Callable, Iterator
from functools import partial

import mlx.core as mx

from shared.messages import Accepted, CountedTokens, Job
from worker.engine.cache import kv as caches
from worker.engine.cache.prefix import PrefixCache
from worker.engine.faults import JobFault, as_fault, is_out_of_memory
from worker.engine.interface import EngineEvent, WakeLoop
from worker.engine.model.blas import BlasThreads
from worker.engine.model.language import language_of
from worker.engine.model.model import LoadedModel
from worker.engine.options import EngineOptions
from worker.engine.prepare.grammar import GrammarMaker
from worker.engine.prepare.pool import Preparation, Prepared, Read, Refused
from worker.engine.prepare.preprocess import Preprocessor
from worker.engine.prepare.prompt import PromptWriter
from worker.engine.schedule.batches import Batches
from worker.engine.schedule.first_token import say_first
from worker.engine.schedule.memory_budget import MemoryBudget
from worker.engine.schedule.pacer import Pacer
from worker.engine.schedule.prefill import Prefilled
from worker.engine.schedule.queue import PrefillQueue
from worker.engine.schedule.recovery import try_alone
from worker.engine.schedule.request import Request, failed
from worker.engine.schedule.room import Room
from worker.engine.schedule.sequences import Chosen, Rows, Sequence, State
from worker.engine.schedule.speculation import Speculation

log = logging.getLogger(__name__)

MOST_FAILURES = 3
"""A job that was in the batch at so many failed steps is given up."""


class MlxEngine:
    """Implements `worker.engine.interface.Engine` for a model that is there.

    Args:
        memory: what jobs may take beside the model.

    Attributes:
        facts: what gateways are told of the model.
        writer: makes a prompt's text of a job's messages.
        memory: what they have taken of it.
        preparation: of jobs' prompts, beside the engine thread.
        threads: of a CPU's BLAS.
        speculation: on what rows are likely to say next.
        watch: sees each token as it was chosen, with the log probabilities that its job asks for.
    """

    def __init__(
        self,
        model: LoadedModel,
        options: EngineOptions,
        memory: MemoryBudget,
        threads: BlasThreads,
        wake: WakeLoop,
    ) -> None:
        self.model = model
        self.writer = PromptWriter.of(model, options.image_position)
        self._language = language_of(model)
        begins = self._language.call_start, self._language.heads
        grammars = GrammarMaker(model.tokenizer, model.vocabulary, model.eos_ids, *begins)
        preprocessor = Preprocessor(model, self.writer)
        self.preparation = Preparation(preprocessor, grammars, options.preprocess_threads, wake)
        self.memory, self.threads = memory, threads
        self.speculation = Speculation(model)
        self._requests: dict[str, Request] = {}
        self.watch: Callable[[Chosen], None] | None = None
        self.begin_anew(options)

    def begin_anew(self, options: EngineOptions) -> None:
        """Drop all that is under way and all that is remembered, and go on by these options, and by
        the model's abilities as they are now."""
        for job_id in self._requests:
            self.preparation.cancel(job_id)
            self.memory.release(job_id)
        abilities = self.model.abilities
        prefix_bytes = options.prefix_cache_bytes if abilities.prefix_cache else 0
        self._prefixes = PrefixCache(prefix_bytes, plain=caches.is_plain(self.model.new_cache()))
        pacer = Pacer(options.prefill_pause_s, options.largest_piece, steady=options.steady)
        self._prefills = PrefillQueue(self.model, self._prefixes, pacer)
        self._room = Room(self.memory, self._prefixes, self.model.vision_cache)
        self.speculation.begin_anew(options.speculate)
        self._batch = Batches(self.model, self.speculation)
        self._most_rows = options.max_rows if abilities.batching else 1
        self._requests = {}
        self._waiting: deque[Request] = deque()
        self._leaving: list[Sequence] = []
        self._events: list[EngineEvent] = []
        self._decoded_tokens = 0
        self._decoding_s = 0.0
        self.facts = self.model.facts()
        self.forget()

    # --- the Engine protocol ---------------------------------------------------------------------

    def submit(self, job: Job, images: abc.Sequence[bytes]) -> None:
        self._requests[job.id] = Request(job)
        self.preparation.submit(job, images)

    def count(self, job: Job, images: abc.Sequence[bytes]) -> None:
        self.preparation.count(job, images)

    def cancel(self, job_id: str) -> bool:
        in_preparation = self.preparation.cancel(job_id)
        request = self._requests.get(job_id)
        if request is None:
            return in_preparation
        self._remove(request)
        self._leave()
        return True

    def step(self) -> list[EngineEvent]:
        if not self._batch.busy:
            self.preparation.settle()
        self._room.look_around()
        self._receive()
        self._admit()
        disturbed = self._prefill()
        self._decode(disturbed=disturbed)
        events, self._events = self._events, []
        return events

    def has_work(self) -> bool:
        under_way = self._prefills or self._batch.busy or self.preparation.has_prepared()
        return bool(under_way or (self._waiting and not self._room.waits_for_others))

    def gauges(self) -> dict[str, float]:
        rate = self._decoded_tokens / self._decoding_s if self._decoding_s else 0.0
        self._decoded_tokens, self._decoding_s = 0, 0.0
        return {
            **self.memory.gauges(),
            **self._prefixes.gauges(),
            **self.model.vision_cache.gauges(),
            "rows": float(len(self._batch)),
            "batches": float(self._batch.count),
            "waiting": float(len(self._waiting)),
            "tokens_per_second": rate,
            **self.speculation.gauges(),
        }

    def forget(self) -> None:
        """Forget what requests have left behind: caches, and what was counted."""
        self._prefixes.clear()
        self.model.vision_cache.clear()
        self.gauges()
        mx.clear_cache()

    # --- from submitted to prefilling ------------------------------------------------------------

    def _receive(self) -> None:
        for arrival in self.preparation.collect():
            if isinstance(arrival, Read):
                self._count(arrival)
            elif isinstance(arrival, Refused):
                self._refuse(arrival)
            else:
                self._accept(arrival)

    def _refuse(self, refused: Refused) -> None:
        """A job, or one whose prompt was only to be counted."""
        request = self._requests.get(refused.job_id)
        if request is not None:
            self._remove(request)
        self._events.append(failed(refused.job_id, refused.fault))

    def _count(self, read: Read) -> None:
        try:
            tokens = self.model.length_of(read.ids, read.inputs) if read.inputs else read.count
        except Exception as error:
            # A boundary: models fail in their own ways.
            self._events.append(failed(read.job_id, as_fault(error)))
        else:
            self._events.append(CountedTokens(job=read.job_id, prompt_tokens=tokens))

    def _accept(self, prepared: Prepared) -> None:
        request, prompt = self._requests[prepared.job_id], prepared.prompt
        with self._failing_alone(request):
            limits = self.model.defaults, self.model.context_tokens
            request.begin(prompt, prepared.grammar, self._language, *limits)
            prompt_tokens = self.model.length_of(prompt.ids, prompt.inputs)
            request.take_prompt(prompt.of_length(prompt_tokens))
            unenforced = list(prepared.grammar.unenforced) if prepared.grammar else []
            self._events.append(
                Accepted(job=request.job.id, prompt_tokens=prompt_tokens, unenforced=unenforced)
            )
            self._events.extend(request.opening())
            if request.unfinished:
                self._waiting.append(request)
            else:
                self._finish(request)

    def _admit(self) -> None:
        """Let waiting requests in, first come first served, while there are rows and memory."""
        while self._waiting:
            request = self._waiting[0]
            if not self._may_enter(request):
                return
            if request.unfinished:  # else it has failed, and is out of the line already
                self._waiting.popleft()
                self._prefills.add(request)

    def _may_enter(self, request: Request) -> bool:
        """Whether the request need not wait: it has its place, or has just failed."""
        sequences = request.unfinished
        taken = len(self._batch) + self._prefills.rows
        if taken and taken + len(sequences) > self._most_rows:
            return False
        with self._failing_alone(request):
            return self._room.reserve(request)
        return True

    def _prefill(self) -> bool:
        """Prefill as much as running streams may wait for; False if there was nothing to do."""
        started = time.perf_counter()
        worked = False
        while self._prefills and (self.model.batchable or not self._batch.busy):
            # Not before: what the last step has left to compute goes on as it began.
            self.threads.for_prefill()
            decoding = len(self._batch) > 0
            waiting = self._prefills.rows + len(self._waiting) + len(self.preparation)
            self._prefills.pacer.note_newcomers(
                tokens=self._prefills.next_tokens, waiting=waiting, running=len(self._batch)
            )
            progress = self._prefills.work(decoding=decoding, others_come=len(self.preparation) > 0)
            worked = True
            for request, error in progress.failed:
                self._fail(request, error)
            for prefilled in progress.prefilled:
                self._join(prefilled)
            # Another piece would take about as long as this one. With nobody decoding, look
            # first whether others have come.
            if not decoding or self._prefills.pacer.enough(time.perf_counter() - started):
                break
        return worked

    def _join(self, prefilled: Prefilled) -> None:
        rows = [row for prefill in prefilled.prefills for row in prefill.begin_decoding()]
        with self._failing_alone(prefilled.prefills[0].request):
            if any(prefill.suspect for prefill in prefilled.prefills):
                try_alone(self.model, rows, prefilled.cache)
            if self.model.family.last_with_prompt:
                say_first(self.model, prefilled, self._deliver)
        if rows[0].state is State.FINISHED:
            return self._leave()
        self.speculation.join(rows)
        try:
            self._batch.join(rows, prefilled.cache, is_batch=prefilled.is_batch)
        except Exception as error:
            # The batch may be half changed: nobody in it can go on without a new one.
            self._recover(error, [*self._batch.rows, *rows])

    # --- decoding --------------------------------------------------------------------------------

    def _decode(self, *, disturbed: bool) -> None:
        if not self._batch.busy:
            return
        self.threads.for_decode()
        started = time.perf_counter()
        try:
            self._batch.step(self._deliver)
        except Exception as error:
            # Whose fault it was is not known: everyone is brought back.
            self._recover(error, list(self._batch.rows))
            return
        spent = time.perf_counter() - started
        self._decoding_s += spent
        self._prefills.pacer.note_step(spent, disturbed=disturbed)
        self._leave()
        if (youngest := self._room.exceeded_by(self._requests.values())) is not None:
            self._set_aside(youngest)

    def _set_aside(self, request: Request) -> None:
        """Have it wait for memory, to be prefilled again."""
        log.warning("memory runs short: a request waits", extra=_fields(request))
        self.memory.release(request.job.id)
        request.set_aside = True
        self._prefills.remove(request)
        self._leaving += [row for row in request.unfinished if row.state is State.DECODING]
        for sequence in request.unfinished:
            sequence.move(State.WAITING)
        self._waiting.appendleft(request)
        self._leave()

    def _deliver(self, chosen: list[Chosen]) -> None:
        for item in chosen:
            # A row that has left since may be among them: what was computed for it is of no use.
            if item.row.state is State.DECODING:
                with self._failing_alone(item.row.request):
                    self._take(item)

    def _take(self, chosen: Chosen) -> None:
        request = chosen.row.request
        if self.watch is not None:
            self.watch(chosen)
        self._events.append(request.take(chosen, self._language.vocabulary))
        self._decoded_tokens += 1
        if chosen.row.complete:
            self._leaving.append(chosen.row)
            if not request.unfinished:
                self._finish(request)

    def _leave(self) -> None:
        """Take out of the batch who has finished or was cancelled, between two steps."""
        leaving, self._leaving = self._leaving, []
        for row in leaving:
            if row.index == 0 and row.complete and row in self._batch.rows:
                self._remember(row)
        try:
            self._batch.leave(leaving)
        except Exception as error:
            # The batch may be half changed; those who leave have ended already.
            self._recover(error, [row for row in self._batch.rows if row not in leaving])

    def _remember(self, row: Sequence) -> None:
        """Keep its cache for a next turn; without it, that one computes it again."""
        family = self.model.family
        if not self._prefixes.limit_bytes or row.request.unsplit or family.last_with_prompt:
            return
        try:
            key = row.cache_key()
            if key is not None:
                salt = row.request.job.cache_salt
                self._prefixes.put(key, salt, partial(self._batch.parts, row))
        except Exception:
            # The boundary of a row that has said all it had to say.
            log.exception("a cache cannot be remembered", extra=_fields(row.request))

    # --- ends ------------------------------------------------------------------------------------

    def _finish(self, request: Request) -> None:
        self._events.append(request.done())
        self._forget(request)

    def _fail(self, request: Request, error: Exception) -> None:
        if request.job.id not in self._requests:
            return
        self._remove(request)
        self._events.append(failed(request.job.id, as_fault(error)))
        if not isinstance(error, JobFault):
            log.error("a job has failed", exc_info=error, extra=_fields(request))

    def _remove(self, request: Request) -> None:
        """Take a request out, wherever it is; its rows leave the batch between two steps."""
        self._forget(request)
        self._prefills.remove(request)
        if request in self._waiting:
            self._waiting.remove(request)
        self._leaving += [row for row in request.unfinished if row.state is State.DECODING]
        request.give_up()

    def _forget(self, request: Request) -> None:
        self._requests.pop(request.job.id, None)
        self.memory.release(request.job.id)

    @contextlib.contextmanager
    def _failing_alone(self, request: Request) -> Iterator[None]:
        """The boundary of a job: what is raised within fails this request and nobody else."""
        try:
            yield
        except Exception as error:
            self._fail(request, error)

    def _recover(self, error: Exception, rows: Rows) -> None:
        """After a failed step: give everyone a new start from their tokens."""
        log.error("a step has failed; its rows are prefilled again", exc_info=error)
        self._batch = Batches(self.model, self.speculation)
        self._leaving.clear()
        mx.clear_cache()
        alive = [one for one in dict.fromkeys(row.request for row in rows) if one.unfinished]
        if is_out_of_memory(error) and len(alive) > 1:
            self._fail(alive.pop(), error)  # the newcomer: those before it did fit
        for request in alive:
            request.failures += 1
            self._prefills.remove(request)
            if request.failures >= MOST_FAILURES:
                self._fail(request, error)
            else:
                self._prefills.add(request, suspect=True)


def _fields(request: Request) -> dict[str, object]:
    return {"fields": {"job": request.job.id}}

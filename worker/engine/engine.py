"""The engine: takes jobs, gives events, with one thread's calls in between.

A job's way: submitted -> prepared (text, tokens, pixels; on the pool) -> waiting (for rows and
memory) -> prefilled (in pieces) -> decoding -> done. It can be cancelled at any place, and what
goes wrong at any place is its own failure alone. Only a failed decode step concerns all rows: its
batch is thrown away and every row is prefilled again from its tokens, each tried alone first, so
that the culprit is found and the others go on.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence

import mlx.core as mx

from shared.messages import Accepted, CountedTokens, Job
from worker.engine.cache.prefix import PrefixCache
from worker.engine.faults import JobFault, is_out_of_memory
from worker.engine.interface import EngineEvent, ModelFacts
from worker.engine.model.blas import choose_threads
from worker.engine.model.device import has_gpu, set_memory_limits
from worker.engine.model.model import LoadedModel, load_model
from worker.engine.model.warmup import warm_up
from worker.engine.options import EngineOptions
from worker.engine.prepare.grammar import GrammarMaker
from worker.engine.prepare.pool import Preparation, Ready, Refused
from worker.engine.prepare.preprocess import Preprocessor
from worker.engine.prepare.prompt import PromptWriter
from worker.engine.schedule.batch import Chosen, Row
from worker.engine.schedule.batches import Batches
from worker.engine.schedule.memory_budget import MemoryBudget
from worker.engine.schedule.queue import Joining, PrefillQueue
from worker.engine.schedule.recovery import try_alone
from worker.engine.schedule.sequences import Choice, Task, failed
from worker.engine.text.answer import Language
from worker.engine.text.detokenizer import Vocabulary
from worker.engine.text.harmony import MARKERS, speaks_harmony
from worker.engine.text.reasoning import find_markers
from worker.engine.text.tools import find_parser

log = logging.getLogger(__name__)

MOST_FAILURES = 3
"""A job that was in the batch at so many failed steps is given up."""


class MlxEngine:
    """Implements `worker.engine.interface.Engine`.

    Args:
        wake: called from any thread when `step` has something new to do.
    """

    def __init__(self, options: EngineOptions, wake: Callable[[], None]) -> None:
        self._options = options
        self._wake = wake
        self._tasks: dict[str, Task] = {}
        self._waiting: deque[Task] = deque()
        self._leaving: list[Row] = []
        self._events: list[EngineEvent] = []
        self._decoded_tokens = 0
        self._decoding_s = 0.0

    # --- the Engine protocol ---------------------------------------------------------------------

    def load(self, report: Callable[[float], None]) -> ModelFacts:
        limit_bytes = set_memory_limits()
        model = load_model(self._options, report)
        self._set_up(model, limit_bytes)
        facts = model.facts()
        self._threads = choose_threads(model, gpu=has_gpu())
        warm_up(self, facts)
        self._forget_warm_up()
        report(1.0)
        return facts

    def submit(self, job: Job, images: Sequence[bytes]) -> None:
        self._preparation.submit(job, images)

    def count(self, job: Job, images: Sequence[bytes]) -> None:
        self._preparation.count(job, images)

    def cancel(self, job_id: str) -> bool:
        if self._preparation.cancel(job_id):
            return True
        task = self._tasks.get(job_id)
        if task is None:
            return False
        self._remove(task)
        self._batch.leave(self._take_leaving())
        return True

    def step(self) -> list[EngineEvent]:
        if not self._batch.busy:
            self._preparation.settle()
        self._receive()
        self._admit()
        disturbed = self._prefill()
        self._decode(disturbed=disturbed)
        events, self._events = self._events, []
        return events

    def has_work(self) -> bool:
        return bool(
            self._waiting or self._prefills or self._batch.busy or self._preparation.has_prepared()
        )

    def gauges(self) -> dict[str, float]:
        vision, prefixes = self._model.vision_cache, self._prefixes
        rate = self._decoded_tokens / self._decoding_s if self._decoding_s else 0.0
        self._decoded_tokens, self._decoding_s = 0, 0.0
        return {
            "memory_bytes": float(mx.get_active_memory() + mx.get_cache_memory()),
            "memory_reserved_bytes": float(self._memory.reserved_bytes),
            "memory_usable_bytes": float(self._memory.usable_bytes),
            "cache_bytes_per_token": self._memory.bytes_per_token,
            "prefix_cache_hits": float(prefixes.hits),
            "prefix_cache_misses": float(prefixes.misses),
            "prefix_cache_bytes": float(prefixes.bytes),
            "vision_cache_hits": float(vision.hits),
            "vision_cache_misses": float(vision.misses),
            "vision_cache_bytes": float(vision.bytes),
            "rows": float(len(self._batch)),
            "batches": float(self._batch.count),
            "waiting": float(len(self._waiting)),
            "tokens_per_second": rate,
        }

    def close(self) -> None:
        """End the pool's threads; the engine is of no use afterwards."""
        self._preparation.close()

    def render(self, job: Job) -> str:
        """The text that the model's template makes of a job's messages."""
        return self._writer.write(job)

    # --- setting up ------------------------------------------------------------------------------

    def _set_up(self, model: LoadedModel, limit_bytes: int | None) -> None:
        self._model = model
        self._language = language_of(model)
        self._writer = PromptWriter(
            model.tokenizer,
            model.processor,
            model_type=model.model_type,
            template=model.chat_template,
            image_marker=model.image_marker,
            image_position=self._options.image_position,
        )
        # Harmony's calls are messages of their own, which no form concerns.
        call_start = "" if self._language.harmony else self._language.parser.tool_call_start
        grammars = GrammarMaker(model.tokenizer, model.vocabulary, model.eos_ids, call_start)
        preprocessor = Preprocessor(model, self._writer)
        threads = self._options.preprocess_threads
        self._preparation = Preparation(preprocessor, grammars, threads, self._wake)
        self._prefixes = PrefixCache(self._options.prefix_cache_bytes)
        self._prefills = PrefillQueue(model, self._prefixes, self._options.prefill_pause_s)
        self._batch = Batches(model)
        self._memory = MemoryBudget(limit_bytes, model.bytes_per_token)
        self._memory.describe()
        self._most_rows = self._options.max_rows if model.batchable else 1

    def _forget_warm_up(self) -> None:
        self._prefixes.clear()
        self._model.vision_cache.clear()
        self.gauges()
        mx.clear_cache()

    # --- from submitted to prefilling ------------------------------------------------------------

    def _receive(self) -> None:
        for arrival in self._preparation.collect():
            if isinstance(arrival, Refused):
                self._events.append(failed(arrival.job.id, arrival.fault))
            elif isinstance(arrival, CountedTokens):
                self._events.append(arrival)
            else:
                self._accept(arrival)

    def _accept(self, ready: Ready) -> None:
        task = Task(ready.job, ready.prompt, ready.submitted_at)
        self._tasks[task.job.id] = task
        with self._failing_alone(task):
            task.make_choices(
                self._language, self._model.defaults, ready.grammar, self._model.context_tokens
            )
            prompt_tokens = len(task.prompt.ids)
            self._events.append(Accepted(job=task.job.id, prompt_tokens=prompt_tokens))
            self._events.extend(task.opening())
            if task.unfinished:
                self._waiting.append(task)
            else:
                self._finish(task)

    def _admit(self) -> None:
        """Let waiting jobs in, first come first served, while there are rows and memory."""
        while self._waiting:
            task = self._waiting[0]
            if not self._may_enter(task):
                return
            if task.job.id in self._tasks:  # else it has failed, and is out of the line already
                self._waiting.popleft()
                self._prefills.add(task)

    def _may_enter(self, task: Task) -> bool:
        """Whether the task need not wait: it has its place, or has just failed."""
        rows = len(task.unfinished)
        taken = len(self._batch) + self._prefills.rows
        if taken and taken + rows > self._most_rows:
            return False
        answer_tokens = max(choice.answer.limit for choice in task.unfinished)
        wanted = self._memory.estimate(len(task.prompt.ids), answer_tokens, rows)
        with self._failing_alone(task):
            return self._memory.reserve(task.job.id, wanted)
        return True

    def _prefill(self) -> bool:
        """Prefill as much as running streams may wait for; False if there was nothing to do."""
        started = time.perf_counter()
        worked = False
        while self._prefills and (self._model.batchable or not self._batch.busy):
            # Not before: what the last step has left to compute goes on as it began.
            self._threads.for_prefill()
            decoding = len(self._batch) > 0
            waiting = self._prefills.rows + len(self._waiting) + len(self._preparation)
            self._prefills.pacer.note_newcomers(
                tokens=self._prefills.next_tokens, waiting=waiting, running=len(self._batch)
            )
            others_come = len(self._preparation) > 0
            progress = self._prefills.work(decoding=decoding, others_come=others_come)
            worked = True
            for task, error in progress.failed:
                self._fail(task, error)
            for joining in progress.joining:
                self._join(joining)
            # Another piece would take about as long as this one. With nobody decoding, look
            # first whether others have come.
            if (
                not decoding
                or 2 * (time.perf_counter() - started) > self._prefills.pacer.allowance_s
            ):
                break
        return worked

    def _join(self, joining: Joining) -> None:
        rows = [
            choice.make_row(entry.prefill) for entry in joining.entries for choice in entry.choices
        ]
        if any(entry.suspect for entry in joining.entries):
            task = joining.entries[0].task
            with self._failing_alone(task):
                try_alone(self._model, rows, joining.cache)
            if task.job.id not in self._tasks:
                return
        try:
            self._batch.join(rows, joining.cache, is_batch=joining.is_batch)
        except Exception as error:
            # The batch may be half changed: nobody in it can go on without a new one.
            self._recover(error, [*self._batch.rows, *rows])

    # --- decoding --------------------------------------------------------------------------------

    def _decode(self, *, disturbed: bool) -> None:
        if not self._batch.busy:
            return
        self._threads.for_decode()
        started = time.perf_counter()
        try:
            self._batch.step(self._deliver)
        except Exception as error:
            # Whose fault it was is not known: everyone is brought back.
            self._recover(error, list(self._batch.rows))
            return
        spent = time.perf_counter() - started
        self._decoding_s += spent
        if not disturbed:
            self._prefills.pacer.note_step(spent)
        self._batch.leave(self._take_leaving())

    def _deliver(self, chosen: list[Chosen]) -> None:
        for item in chosen:
            choice = item.row.name
            assert isinstance(choice, Choice)
            if choice.row is item.row and not choice.finished:
                with self._failing_alone(choice.task):
                    self._take(choice, item)

    def _take(self, choice: Choice, chosen: Chosen) -> None:
        task = choice.task
        self._events.append(task.take(choice, chosen, self._language.vocabulary))
        self._decoded_tokens += 1
        if choice.finished:
            self._leaving.append(chosen.row)
            if not task.unfinished:
                self._finish(task)

    def _take_leaving(self) -> list[Row]:
        """The rows to take out of the batch now, their caches remembered for a next turn."""
        leaving, self._leaving = self._leaving, []
        for row in leaving:
            choice = row.name
            assert isinstance(choice, Choice)
            if choice.index == 0 and choice.finished and row in self._batch.rows:
                self._remember(choice.task, row)
        return leaving

    def _remember(self, task: Task, row: Row) -> None:
        if self._prefixes.limit_bytes and not task.unsplit:
            key = task.key_of(row)
            if key is not None:
                self._prefixes.put(key, task.job.cache_salt, self._batch.last_cache(row))

    # --- ends ------------------------------------------------------------------------------------

    def _finish(self, task: Task) -> None:
        self._events.append(task.done())
        self._forget(task)

    def _fail(self, task: Task, error: Exception) -> None:
        if task.job.id not in self._tasks:
            return
        self._remove(task)
        self._events.append(failed(task.job.id, _as_fault(error)))
        if not isinstance(error, JobFault):
            log.error("a job has failed", exc_info=error, extra={"fields": {"job": task.job.id}})

    def _remove(self, task: Task) -> None:
        """Take a task out, wherever it is; its rows leave the batch between two steps."""
        self._forget(task)
        self._prefills.remove(task)
        if task in self._waiting:
            self._waiting.remove(task)
        for choice in task.choices:
            if choice.row is not None:
                self._leaving.append(choice.row)
                choice.row = None

    def _forget(self, task: Task) -> None:
        self._tasks.pop(task.job.id, None)
        self._memory.release(task.job.id)

    @contextlib.contextmanager
    def _failing_alone(self, task: Task) -> Iterator[None]:
        """The boundary of a job: what is raised within fails this task and nobody else."""
        try:
            yield
        except Exception as error:
            self._fail(task, error)

    def _recover(self, error: Exception, rows: Sequence[Row]) -> None:
        """After a failed step: give everyone a new start from their tokens."""
        log.error("a step has failed; its rows are prefilled again", exc_info=error)
        self._batch = Batches(self._model)
        self._leaving.clear()
        mx.clear_cache()
        tasks = list(dict.fromkeys(row.name.task for row in rows if isinstance(row.name, Choice)))
        alive = [task for task in tasks if task.job.id in self._tasks]
        if is_out_of_memory(error) and len(alive) > 1:
            self._fail(alive.pop(), error)  # the newcomer: those before it did fit
        for task in alive:
            task.failures += 1
            for choice in task.choices:
                choice.row = None
            self._prefills.remove(task)
            if task.failures >= MOST_FAILURES:
                self._fail(task, error)
            else:
                self._prefills.add(task, suspect=True)


def language_of(model: LoadedModel) -> Language:
    """How this model's tokens, thoughts and calls are read."""
    parser = find_parser(model.chat_template)
    markers = find_markers(model.chat_template)
    shown = {parser.tool_call_start, parser.tool_call_end}
    if markers is not None:
        shown |= {markers.start, markers.end}
    harmony = speaks_harmony(model.chat_template)
    if harmony:
        shown |= MARKERS
    vocabulary = Vocabulary(model.tokenizer, frozenset(shown))
    return Language(vocabulary, model.eos_ids, markers, parser, harmony)


def _as_fault(error: Exception) -> JobFault:
    if isinstance(error, JobFault):
        return error
    if is_out_of_memory(error):
        return JobFault("out_of_memory", "This worker's memory does not suffice at the moment.")
    return JobFault("internal_error", f"The request has failed in the engine: {error}")

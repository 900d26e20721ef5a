"""Preparation: jobs are read on a pool of threads and come out as they are ready.

Everything slow that needs no MLX happens here: templates, tokenizing, decoding and resizing
pictures, compiling grammars. Long texts have a thread of their own, one after the other: however
many there are, short questions pass them.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import Any

from shared.messages import Job
from shared.wire import packed_bytes
from worker.engine.faults import JobFault
from worker.engine.prepare.grammar import GrammarMaker, GrammarState
from worker.engine.prepare.preprocess import Preprocessor, Prompt

log = logging.getLogger(__name__)

SETTLE_S = 0.003
"""How long an idle engine waits for jobs that come together, to prefill them together."""

LONG_BYTES = 1 << 18
"""A job without its pictures; tokenizing takes a quarter to one microsecond for each."""


@dataclass(frozen=True)
class Prepared:
    """A job's prompt as it was read, and the grammar of its answer, if that must have a form."""

    job_id: str
    prompt: Prompt
    grammar: GrammarState | None


@dataclass(frozen=True)
class Refused:
    """A job that cannot be prepared."""

    job_id: str
    fault: JobFault


@dataclass(frozen=True)
class Read:
    """A prompt that is only to be counted.

    Attributes:
        count: of its tokens.
        ids: these, where there are images.
        inputs: what was made of the images.
    """

    job_id: str
    count: int
    ids: list[int]
    inputs: dict[str, Any]


Arrival = Prepared | Refused | Read


class Preparation:
    """
    Args:
        wake: called from a pool thread when a job is prepared.
    """

    def __init__(
        self,
        preprocessor: Preprocessor,
        grammars: GrammarMaker,
        threads: int,
        wake: Callable[[], None],
    ) -> None:
        self._preprocessor = preprocessor
        self._grammars = grammars
        self._wake = wake
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="prepare")
        self._long = ThreadPoolExecutor(1, thread_name_prefix="prepare-long")
        self._coming: dict[str, Future[Arrival]] = {}

    def submit(self, job: Job, images: Sequence[bytes]) -> None:
        self._start(job, images, self._prepare)

    def count(self, job: Job, images: Sequence[bytes]) -> None:
        """Only read the prompt, so that its tokens can be counted."""
        self._start(job, images, self._read)

    def cancel(self, job_id: str) -> bool:
        future = self._coming.pop(job_id, None)
        if future is None:
            return False
        future.cancel()  # if it has begun already, its result is dropped
        return True

    def settle(self) -> None:
        """Wait a moment for what is being prepared. For an engine with nothing else to do."""
        if self._coming:
            wait(self._coming.values(), timeout=SETTLE_S)

    def finish(self) -> None:
        """Wait until all of it is prepared."""
        wait(self._coming.values())

    def has_prepared(self) -> bool:
        return any(future.done() for future in self._coming.values())

    def __len__(self) -> int:
        return len(self._coming)

    def collect(self) -> Iterator[Arrival]:
        """Take out what is prepared."""
        for job_id in [job_id for job_id, future in self._coming.items() if future.done()]:
            yield self._coming.pop(job_id).result()

    def _start(
        self, job: Job, images: Sequence[bytes], work: Callable[[Job, Sequence[bytes]], Arrival]
    ) -> None:
        is_long = packed_bytes(job) > LONG_BYTES
        pool = self._long if is_long else self._pool
        future = self._coming[job.id] = pool.submit(work, job, images)
        future.add_done_callback(lambda _: self._wake())

    def _prepare(self, job: Job, images: Sequence[bytes]) -> Arrival:
        def prepare() -> Prepared:
            grammar = self._grammars.make(job)
            return Prepared(job.id, self._preprocessor.prepare(job, images), grammar)

        return self._failing_alone(job, prepare)

    def _read(self, job: Job, images: Sequence[bytes]) -> Arrival:
        def read() -> Read:
            tokens, inputs = self._preprocessor.read(job, images)
            return Read(job.id, len(tokens), tokens.ids if inputs else [], inputs)

        return self._failing_alone(job, read)

    @staticmethod
    def _failing_alone(job: Job, work: Callable[[], Arrival]) -> Arrival:
        try:
            return work()
        except JobFault as fault:
            return Refused(job.id, fault)
        except Exception as error:
            # The boundary of a job: processors and templates raise what they like.
            log.exception("preparing a job has failed", extra={"fields": {"job": job.id}})
            return Refused(job.id, JobFault("internal_error", f"Preparing the request: {error}"))

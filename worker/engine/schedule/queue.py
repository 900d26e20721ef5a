"""Who is prefilled next, and how much of it between two decode steps."""

from __future__ import annotations

import math
import time
from collections import deque
from dataclasses import dataclass, field
from itertools import islice

from worker.engine.cache.kv import Cache
from worker.engine.cache.prefix import PrefixCache
from worker.engine.model.model import LoadedModel
from worker.engine.schedule.pacer import Pacer
from worker.engine.schedule.prefill import MOST_TOGETHER, Prefill, Prefiller
from worker.engine.schedule.sequences import Choice, Task

COPIED_APART_BYTES = 4 << 20
"""A larger cache is copied, to be remembered, in a piece of its own while others decode."""


@dataclass(eq=False)
class Entry:
    """One sequence to prefill, for one or more choices that go on from it.

    Attributes:
        suspect: it was in the batch when a step failed, and is to be tried alone.
        computed: its prompt is in its cache.
    """

    task: Task
    choices: list[Choice]
    prefill: Prefill
    suspect: bool = False
    computed: bool = False


@dataclass(frozen=True)
class Joining:
    """Entries whose prompts are in `cache`, in its rows' order if it is a batch cache."""

    entries: list[Entry]
    cache: Cache
    is_batch: bool


@dataclass
class Progress:
    joining: list[Joining] = field(default_factory=list)
    failed: list[tuple[Task, Exception]] = field(default_factory=list)


class PrefillQueue:
    """First come, first served; short prompts that stand next to each other go together."""

    def __init__(self, model: LoadedModel, prefixes: PrefixCache, prefill_pause_s: float) -> None:
        self._model = model
        self._prefiller = Prefiller(model, prefixes)
        self.pacer = Pacer(prefill_pause_s)
        self._entries: deque[Entry] = deque()
        self._wait_s = prefill_pause_s
        self._waits_since: float | None = None

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def next_tokens(self) -> int:
        """How many tokens the next one needs in all, beyond what a cache spares it."""
        if not self._entries:
            return 0
        prefill = self._entries[0].prefill
        return prefill.target - prefill.cached

    @property
    def rows(self) -> int:
        return sum(len(entry.choices) for entry in self._entries)

    def add(self, task: Task, *, suspect: bool = False) -> None:
        """Line up a task's unfinished choices; those without tokens share one prefill."""
        new = [choice for choice in task.unfinished if not choice.answer.tokens]
        groups = [new] if self._model.batchable and new else [[choice] for choice in new]
        groups += [[choice] for choice in task.unfinished if choice.answer.tokens]
        for choices in groups:
            output_tokens = list(choices[0].answer.tokens)
            prefill = Prefill(task.prompt, task.job.cache_salt, output_tokens)
            self._entries.append(Entry(task, choices, prefill, suspect))

    def remove(self, task: Task) -> None:
        self._entries = deque(entry for entry in self._entries if entry.task is not task)

    def work(self, *, decoding: bool, others_come: bool) -> Progress:
        """Do one piece of prefill: a chunk, some of an image, or several short prompts at once.

        With nobody decoding and others about to come, those here wait for them for a moment,
        encoding their pictures meanwhile: together they are prefilled and decoded at less cost.

        What fails, fails alone: the entries of its task leave the queue.
        """
        progress = Progress()
        tokens = self.pacer.chunk(decoding=decoding)
        seconds = self.pacer.allowance_s if decoding else math.inf
        started = time.perf_counter()
        ready = self._embed(tokens, seconds, progress)
        if 2 * (time.perf_counter() - started) > seconds:
            return progress  # that was enough for now
        if others_come and not decoding and self._may_wait():
            return progress
        self._waits_since = None
        together = self._shareable(ready, tokens)
        if len(together) > 1 and self._run_together(together, progress):
            return progress
        if ready:
            self._advance(ready[0], tokens, progress, decoding=decoding)
        return progress

    def _may_wait(self) -> bool:
        now = time.perf_counter()
        if self._waits_since is None:
            self._waits_since = now
        return now - self._waits_since < self._wait_s

    # --- pieces ----------------------------------------------------------------------------------

    def _embed(self, tokens: int, seconds: float, progress: Progress) -> list[Entry]:
        """Embed the entries at the head that fit into this piece of work; return those ready."""
        ready: list[Entry] = []
        for entry in list(self._entries)[:MOST_TOGETHER]:
            if ready and tokens < entry.prefill.target:
                break
            if ready and seconds < math.inf and not self._prefiller.is_encoded(entry.prefill):
                break  # pictures of those behind wait for their own turn
            try:
                if not self._is_embedded(entry, seconds):
                    break
            except Exception as error:
                # The boundary of a job: image towers fail in their own ways.
                self._fail(entry, error, progress)
                continue
            tokens -= entry.prefill.left
            ready.append(entry)
        return ready

    def _is_embedded(self, entry: Entry, seconds: float) -> bool:
        if entry.prefill.embedded is not None:
            return True
        return self._prefiller.embed(entry.prefill, seconds, self._beside(entry))

    def _beside(self, entry: Entry) -> list[Prefill]:
        """Those after it whose pictures may be encoded at the same time as its own."""
        if not entry.prefill.prompt.inputs:
            return []
        after = islice(self._entries, self._entries.index(entry) + 1, None)
        pictured = (
            other.prefill
            for other in after
            if other.prefill.prompt.inputs and other.prefill.embedded is None
        )
        return list(islice(pictured, len(self._model.streams) - 1))

    def _shareable(self, ready: list[Entry], tokens: int) -> list[Entry]:
        """The entries at the head that make a padded batch within the budget."""
        together: list[Entry] = []
        longest = 0
        for entry in ready:
            longest = max(longest, entry.prefill.target)
            fits = longest * (len(together) + 1) <= tokens
            if not fits or not self._prefiller.can_share(entry.prefill) or entry.suspect:
                break
            if len(entry.choices) > 1:
                break
            together.append(entry)
        return together

    def _run_together(self, entries: list[Entry], progress: Progress) -> bool:
        """Prefill a batch; False if it has to be done one by one."""
        started = time.perf_counter()
        try:
            batches = self._prefiller.together([entry.prefill for entry in entries])
        except Exception:
            # Nobody's fault yet: alone, each will show whether it is its own.
            for entry in entries:
                entry.prefill.cache = self._model.new_cache()
                entry.prefill.done = 0
            return False
        if batches is None:
            return False
        padded = max(entry.prefill.target for entry in entries) * len(entries)
        self.pacer.note_chunk(padded, time.perf_counter() - started)
        for entry in entries:
            self._entries.remove(entry)
            self._account(entry)
        owners = {id(entry.prefill): entry for entry in entries}
        for batch in batches:
            rows = [owners[id(prefill)] for prefill in batch.prefills]
            progress.joining.append(Joining(rows, batch.cache, is_batch=True))
        return True

    def _advance(self, entry: Entry, tokens: int, progress: Progress, *, decoding: bool) -> None:
        started = time.perf_counter()
        prefill = entry.prefill
        try:
            if not entry.computed:
                count = self._prefiller.advance(prefill, tokens)
                self.pacer.note_chunk(count, time.perf_counter() - started)
                entry.computed = prefill.finished
                copying_bytes = self._prefiller.copying_bytes(prefill)
                if not entry.computed or (decoding and copying_bytes > COPIED_APART_BYTES):
                    return
            self._prefiller.keep(prefill)
        except Exception as error:
            # The boundary of a job: whatever its prefill raises is its own failure.
            self._fail(entry, error, progress)
            return
        self._entries.remove(entry)
        self._account(entry)
        assert prefill.cache is not None
        progress.joining.append(Joining([entry], prefill.cache, is_batch=False))

    def _fail(self, entry: Entry, error: Exception, progress: Progress) -> None:
        self.remove(entry.task)
        progress.failed.append((entry.task, error))

    def _account(self, entry: Entry) -> None:
        task, prefill = entry.task, entry.prefill
        if not task.failures:
            task.cached_tokens = max(task.cached_tokens, prefill.cached)
        task.unsplit = prefill.unsplit
        task.prefill_s += prefill.seconds - prefill.vision_seconds
        task.vision_s += prefill.vision_seconds

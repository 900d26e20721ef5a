"""Who is prefilled next, and how much of it between two decode steps."""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass, field
from itertools import islice

import mlx.core as mx

from worker.engine.cache.arrays import wait_for_device
from worker.engine.cache.prefix import PrefixCache
from worker.engine.model.model import LoadedModel
from worker.engine.schedule.pacer import LONGEST_WORK_S, Pacer
from worker.engine.schedule.prefill import MOST_TOGETHER, Prefill, Prefilled, Prefiller
from worker.engine.schedule.request import Request
from worker.engine.schedule.sequences import State

COPIED_APART_BYTES = 4 << 20
"""A larger cache is copied, to be remembered, in a piece of its own while others decode, and
once more, to join them, in another one."""


CLEARED_TOKENS = 512
"""After so many of a prompt, buffers of its pieces' sizes are of no use to anybody soon."""


@dataclass
class Progress:
    """What a piece of work has brought."""

    prefilled: list[Prefilled] = field(default_factory=list)
    failed: list[tuple[Request, Exception]] = field(default_factory=list)


class PrefillQueue:
    """First come, first served; short prompts that stand next to each other go together."""

    def __init__(self, model: LoadedModel, prefixes: PrefixCache, pacer: Pacer) -> None:
        self._model = model
        self._prefiller = Prefiller(model, prefixes)
        self.pacer = pacer
        self._prefills: deque[Prefill] = deque()
        self._wait_s = pacer.prefill_pause_s
        self._waits_since: float | None = None

    def __len__(self) -> int:
        return len(self._prefills)

    @property
    def next_tokens(self) -> int:
        """How many tokens the next one needs in all, beyond what a cache spares it."""
        return self._prefiller.new_tokens(self._prefills[0]) if self._prefills else 0

    @property
    def rows(self) -> int:
        return sum(len(prefill.sequences) for prefill in self._prefills)

    def add(self, request: Request, *, suspect: bool = False) -> None:
        """Line up a request's unfinished sequences; those without tokens share one prefill, where
        they can begin together."""
        unfinished = request.unfinished
        new = [sequence for sequence in unfinished if not sequence.output_tokens]
        shared = self._model.batchable and not self._model.family.last_with_prompt
        groups = [new] if shared and new else [[sequence] for sequence in new]
        groups += [[sequence] for sequence in unfinished if sequence.output_tokens]
        for sequence in unfinished:
            sequence.move(State.PREFILLING)
        self._prefills.extend(Prefill(request, sequences, suspect) for sequences in groups)

    def remove(self, request: Request) -> None:
        self._prefills = deque(one for one in self._prefills if one.request is not request)

    def work(self, *, decoding: bool, others_come: bool) -> Progress:
        """Do one piece of prefill: a chunk, some of an image, or several short prompts at once.

        With nobody decoding and others about to come, those here wait for them for a moment,
        encoding their pictures meanwhile: together they are prefilled and decoded at less cost.

        What fails, fails alone: the prefills of its request leave the queue.
        """
        progress = Progress()
        tokens = self.pacer.chunk(decoding=decoding)
        seconds = min(self.pacer.allowance_s, LONGEST_WORK_S) if decoding else LONGEST_WORK_S
        started = time.perf_counter()
        ready = self._embed(tokens, seconds, progress, decoding=decoding)
        if 2 * (time.perf_counter() - started) > seconds:
            return progress  # that was enough for now
        if others_come and not decoding and self._may_wait():
            return progress
        self._waits_since = None
        together = self._shareable(ready, tokens)
        if len(together) > 1 and self._run_together(together, progress):
            return progress
        if ready:
            first = ready[0]
            tokens = self.pacer.chunk(decoding=decoding, start=first.done, left=first.left)
            self._advance(first, tokens, progress, decoding=decoding)
        return progress

    def _may_wait(self) -> bool:
        now = time.perf_counter()
        if self._waits_since is None:
            self._waits_since = now
        return now - self._waits_since < self._wait_s

    # --- pieces ----------------------------------------------------------------------------------

    def _embed(
        self, tokens: int, seconds: float, progress: Progress, *, decoding: bool
    ) -> list[Prefill]:
        """Embed those at the head that fit into this piece of work; return those ready."""
        ready: list[Prefill] = []
        ends_at = time.perf_counter() + seconds
        for prefill in list(self._prefills)[:MOST_TOGETHER]:
            if prefill not in self._prefills:
                continue  # another one of its request has just failed
            if ready and tokens < prefill.target:
                break
            if ready and decoding and not self._prefiller.is_encoded(prefill):
                break  # pictures of those behind wait for their own turn
            try:
                if not self._is_embedded(prefill, max(0.0, ends_at - time.perf_counter())):
                    break
            except Exception as error:
                # The boundary of a job: image towers fail in their own ways.
                self._fail(prefill, error, progress)
                continue
            tokens -= prefill.left
            ready.append(prefill)
        return ready

    def _is_embedded(self, prefill: Prefill, seconds: float) -> bool:
        if prefill.embedded is not None:
            return True
        return self._prefiller.embed(prefill, seconds, self._beside(prefill))

    def _beside(self, prefill: Prefill) -> list[Prefill]:
        """Those after it whose pictures may be encoded at the same time as its own."""
        if not prefill.prompt.inputs:
            return []
        after = islice(self._prefills, self._prefills.index(prefill) + 1, None)
        pictured = (other for other in after if other.prompt.inputs and other.embedded is None)
        return list(islice(pictured, len(self._model.streams) - 1))

    def _shareable(self, ready: list[Prefill], tokens: int) -> list[Prefill]:
        """Those at the head that make a padded batch within the budget."""
        together: list[Prefill] = []
        longest = 0
        for prefill in ready:
            longest = max(longest, prefill.target)
            fits = longest * (len(together) + 1) <= tokens
            if not fits or not self._prefiller.can_share(prefill) or prefill.suspect:
                break
            if len(prefill.sequences) > 1:
                break
            together.append(prefill)
        return together

    def _run_together(self, prefills: list[Prefill], progress: Progress) -> bool:
        """Prefill a batch; False if it has to be done one by one."""
        try:
            wait_for_device()
            started = time.perf_counter()
            batches = self._prefiller.together(prefills)
        except Exception:
            # Nobody's fault yet: alone, each will show whether it is its own.
            for prefill in prefills:
                prefill.cache = self._model.new_cache()
                prefill.done = 0
            return False
        if batches is None:
            return False
        longest = max(prefill.target for prefill in prefills)
        self.pacer.note_chunk(longest * len(prefills), time.perf_counter() - started, longest / 2)
        for prefill in prefills:
            self._prefills.remove(prefill)
            _account(prefill)
        progress.prefilled += batches
        return True

    def _advance(
        self, prefill: Prefill, tokens: int, progress: Progress, *, decoding: bool
    ) -> None:
        try:
            if not prefill.computed:
                before = prefill.done
                piece = self._prefiller.advance(prefill, tokens)
                middle = before + piece.tokens / 2
                self.pacer.note_chunk(piece.tokens, piece.seconds, middle)
                if not prefill.computed or self._is_apart(prefill, decoding=decoding):
                    return
            if not prefill.kept:
                apart = self._is_apart(prefill, decoding=decoding)
                self._prefiller.keep(prefill)
                if apart:  # to join copies as much once more
                    return
        except Exception as error:
            # The boundary of a job: whatever its prefill raises is its own failure.
            self._fail(prefill, error, progress)
            return
        self._prefills.remove(prefill)
        _account(prefill)
        if self._prefiller.new_tokens(prefill) >= CLEARED_TOKENS:
            mx.clear_cache()
        assert prefill.cache is not None
        progress.prefilled.append(Prefilled([prefill], prefill.cache, is_batch=False))

    def _is_apart(self, prefill: Prefill, *, decoding: bool) -> bool:
        """Whether its cache is so large that to copy it is a piece of work of its own."""
        return decoding and self._prefiller.copying_bytes(prefill) > COPIED_APART_BYTES

    def _fail(self, prefill: Prefill, error: Exception, progress: Progress) -> None:
        self.remove(prefill.request)
        progress.failed.append((prefill.request, error))


def _account(prefill: Prefill) -> None:
    request = prefill.request
    if not request.failures and not request.set_aside:
        request.cached_tokens = max(request.cached_tokens, prefill.cached)
    request.unsplit = prefill.unsplit
    request.prefill_s += prefill.seconds - prefill.vision_seconds
    request.vision_s += prefill.vision_seconds

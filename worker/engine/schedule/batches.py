"""The batches that decode side by side: rows of about the same length share one.

Within a batch every row is padded to the longest. A long newcomer among short rows would have all
their keys and values copied to its length, a pause that every stream feels, and read at that
length from then on. In a batch of its own it costs one more reading of the weights a step, and
nothing is copied when it comes or goes. Which is less, the sizes of both tell.
"""

from __future__ import annotations

from worker.engine.cache.kv import Cache, Spans
from worker.engine.model.model import LoadedModel
from worker.engine.schedule.batch import DecodeBatch
from worker.engine.schedule.sequences import Rows, Sequence
from worker.engine.schedule.speculation import Speculation
from worker.engine.schedule.verification import Deliver

MOST_PADDING = 0.25
"""Of the weights' bytes: padding beyond that is worth another batch."""
LEAST_PADDING_BYTES = 16 << 20
"""Less is never worth one: starting a step has its price whatever the model's size."""


class Batches:
    """To its owner one batch; not thread-safe, and to be thrown away when `step` or `join` fail."""

    def __init__(self, model: LoadedModel, speculation: Speculation | None = None) -> None:
        self._model = model
        self._speculation = speculation
        self._batches: list[DecodeBatch] = []
        self.padding_limit_bytes = max(LEAST_PADDING_BYTES, MOST_PADDING * model.weight_bytes)

    def __len__(self) -> int:
        return sum(len(batch) for batch in self._batches)

    @property
    def busy(self) -> bool:
        return any(batch.busy for batch in self._batches)

    @property
    def count(self) -> int:
        """How many batches there are: how often a step runs the model."""
        return len(self._batches)

    @property
    def rows(self) -> list[Sequence]:
        return [row for batch in self._batches for row in batch.rows]

    def join(self, rows: Rows, cache: Cache, *, is_batch: bool) -> None:
        """As `DecodeBatch.join`."""
        batch = self._batch_for(rows)
        batch.join(rows, cache, is_batch=is_batch)
        if batch not in self._batches:
            self._batches.append(batch)

    def leave(self, gone: Rows) -> None:
        """Take rows out, finished or cancelled. Only between steps."""
        for batch in self._batches:
            batch.leave(gone)
        self._batches = [batch for batch in self._batches if batch.busy]

    def parts(self, row: Sequence, spans: Spans) -> list[Cache]:
        """As `DecodeBatch.parts`."""
        return next(batch for batch in self._batches if row in batch.rows).parts(row, spans)

    def step(self, deliver: Deliver) -> None:
        """One step of every batch; as `DecodeBatch.step`."""
        for batch in self._batches:
            batch.step(deliver)

    def _batch_for(self, rows: Rows) -> DecodeBatch:
        """The batch in which the rows cost the least padding, a new one if that is too much."""
        if not self._batches:
            return self._new()
        best = min(self._batches, key=lambda batch: _padding(batch.rows, rows))
        padding = _padding(best.rows, rows) * self._model.bytes_per_token
        return best if padding <= self.padding_limit_bytes else self._new()

    def _new(self) -> DecodeBatch:
        return DecodeBatch(self._model, self._speculation)


def _padding(rows: Rows, more: Rows) -> int:
    """The padding of a batch of all of them, in tokens."""
    lengths = [row.fed for row in (*rows, *more)]
    return max(lengths) * len(lengths) - sum(lengths)

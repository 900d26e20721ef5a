"""Log probabilities, for the rows that asked for them: of the model itself, before any rule."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import mlx.core as mx

from worker.engine.cache.arrays import to_host


class LogprobReader:
    """The log probabilities of one step, computed on the device, read a step later."""

    def __init__(self, logits: mx.array, rows: Sequence[tuple[int, int]]) -> None:
        self._rows = list(rows)
        self._places = mx.array([place for place, _ in rows])
        mine = logits[self._places].astype(mx.float32)
        self._all = mine - mx.logsumexp(mine, axis=-1, keepdims=True)
        self.arrays: list[mx.array] = []
        most = max(count for _, count in rows)
        if most:
            order = mx.argpartition(-self._all, most - 1, axis=-1)[:, :most]
            self.arrays = [order, mx.take_along_axis(self._all, order, axis=-1)]

    @classmethod
    def of(cls, logits: mx.array, rows: Sequence[tuple[int, int]]) -> LogprobReader | None:
        """
        Args:
            logits: [rows, vocabulary].
            rows: (place in the batch, how many alternatives) of each row that wants them.
        """
        return cls(logits, rows) if rows else None

    def choose(self, tokens: mx.array) -> None:
        """Take note of the tokens chosen for the whole batch, [rows]."""
        mine = tokens[self._places][:, None]
        self.arrays.append(mx.take_along_axis(self._all, mine, axis=-1)[:, 0])

    def read(self) -> Iterator[tuple[int, float, list[tuple[int, float]]]]:
        """Yield (place, logprob, alternatives) of each row, alternatives likeliest first."""
        *likeliest, chosen = (to_host(array) for array in self.arrays)
        for index, (place, count) in enumerate(self._rows):
            alternatives: list[tuple[int, float]] = []
            if likeliest:
                tokens, values = likeliest[0][index], likeliest[1][index]
                ranked = sorted(zip(tokens, values, strict=True), key=lambda pair: -pair[1])
                alternatives = ranked[:count]
            yield place, chosen[index], alternatives

"""From logits to tokens, each row by its own request's rules.

Randomness is a function of (seed, choice, position) and nothing else: one number a token, drawn
on the host and compared with the cumulated probabilities. A row therefore gets the same tokens
alone, in any batch, and on another worker that goes on with its job.

Rows that ask for more than a temperature are gathered, treated together and put back, so that a
batch of plain rows does not pay for its one special row. Order: penalties, bias and grammar on
the logits, then temperature, then top_k, top_p and min_p on what the temperature made of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import mlx.core as mx
import numpy as np
import numpy.typing as npt

from shared.messages import Sampling
from worker.engine.model.config import SamplingDefaults
from worker.engine.schedule.penalties import Bias, Penalties

BELOW_ONE = 1.0 - 2.0**-22
"""Keeps float32 rounding from drawing beyond the last probable token."""

MOST_CANDIDATES = 256
"""With a top_k up to this, no more tokens than this are put in order."""

NOTHING = -1
"""In the place of a token."""

Matrix = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Rules:
    """How one row is sampled; the model's defaults are filled in."""

    seed: int
    temperature: float
    top_p: float
    top_k: int
    min_p: float
    repetition_penalty: float
    presence_penalty: float
    frequency_penalty: float
    logit_bias: dict[int, float]

    @property
    def filters(self) -> bool:
        narrows = self.top_p < 1.0 or self.top_k > 0 or self.min_p > 0.0
        return narrows and self.temperature > 0.0

    @property
    def penalizes(self) -> bool:
        penalties = self.presence_penalty or self.frequency_penalty
        return bool(penalties) or self.repetition_penalty != 1.0


def rules_for(sampling: Sampling, defaults: SamplingDefaults, choice: int) -> Rules:
    """Fill in the model's defaults; choice `i` is seeded with `seed + i`."""

    def given(value: float | None, default: float) -> float:
        return default if value is None else value

    return Rules(
        seed=(sampling.seed + choice) & 0xFFFF_FFFF_FFFF_FFFF,
        temperature=given(sampling.temperature, defaults.temperature),
        top_p=given(sampling.top_p, defaults.top_p),
        top_k=max(0, int(given(sampling.top_k, defaults.top_k))),
        min_p=given(sampling.min_p, defaults.min_p),
        repetition_penalty=given(sampling.repetition_penalty, defaults.repetition_penalty),
        presence_penalty=sampling.presence_penalty,
        frequency_penalty=sampling.frequency_penalty,
        logit_bias=dict(sampling.logit_bias),
    )


def draws(seeds: npt.NDArray[np.uint64], positions: npt.NDArray[np.uint64]) -> Matrix:
    """Return one number in [0, 1) for each seed and position (SplitMix64 of both)."""
    with np.errstate(over="ignore"):
        mixed = _split_mix(seeds) + positions * np.uint64(0x9E3779B97F4A7C15)
        bits = _split_mix(mixed) >> np.uint64(40)
    return (bits.astype(np.float32) * np.float32(2.0**-24)) * np.float32(BELOW_ONE)


def _split_mix(values: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    values = values + np.uint64(0x9E3779B97F4A7C15)
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


class Sampler:
    """The rules of one batch, as arrays. Made anew when rows join or leave; cheap.

    Args:
        rules: one for each row.
        penalties: of the same rows; they stay when this is made anew.
        vocabulary: how many logits a row has.
    """

    def __init__(
        self,
        rules: Sequence[Rules],
        penalties: Penalties,
        vocabulary: int,
    ) -> None:
        temperatures = np.array([rule.temperature for rule in rules], np.float32)
        self._seeds = np.array([rule.seed for rule in rules], np.uint64)
        self.greedy = not temperatures.any()
        self._is_greedy = mx.array(temperatures == 0.0)
        self._all_sampled = bool(temperatures.all())
        self._scale = mx.array(1.0 / np.where(temperatures > 0, temperatures, 1.0))[:, None]
        self._filters = _Filters.of(rules)
        self._penalties = penalties
        self._bias = Bias.of(rules, vocabulary)

    def adjust(self, logits: mx.array, inputs: mx.array, fresh: Sequence[bool]) -> mx.array:
        """Apply penalties and biases; as `Penalties.apply`."""
        logits = self._penalties.apply(logits, inputs, fresh)
        return logits if self._bias is None else self._bias.apply(logits)

    def choose(self, logits: mx.array, positions: Sequence[int]) -> mx.array:
        """Return the next token of each row, [rows]; NOTHING where none has a chance: everything is
        ruled out, or the model's numbers are no numbers.

        Args:
            positions: each row's place in its answer, counted from 0.
        """
        tokens = self._chosen(logits, positions)
        its_logits = mx.take_along_axis(logits, tokens[:, None], axis=-1)[:, 0]
        return mx.where(its_logits > -mx.inf, tokens, NOTHING)

    def _chosen(self, logits: mx.array, positions: Sequence[int]) -> mx.array:
        if self.greedy:
            return mx.argmax(logits, axis=-1).astype(mx.int32)
        scaled = logits.astype(mx.float32) * self._scale
        for filters in self._filters:
            scaled = filters.apply(scaled)
        numbers = draws(self._seeds, np.array(positions, np.uint64))
        chosen = _draw(scaled, mx.array(numbers))
        if self._all_sampled:
            return chosen
        return mx.where(self._is_greedy, mx.argmax(logits, axis=-1).astype(mx.int32), chosen)


def _draw(logits: mx.array, numbers: mx.array) -> mx.array:
    """The first token whose cumulated probability exceeds the row's number.

    The sums are of float32, and computed in parts: they may fall from one token to the next, or
    never exceed the number. A token without a chance is not drawn for that.
    """
    chances = mx.softmax(logits, axis=-1)
    cumulated = mx.cumsum(chances, axis=-1)
    wanted = numbers[:, None] * cumulated[:, -1:]
    last = logits.shape[-1]
    reached = (cumulated > wanted) & (chances > 0)
    drawn = mx.min(mx.where(reached, mx.arange(last), last), axis=-1).astype(mx.int32)
    return mx.where(drawn < last, drawn, mx.argmax(chances, axis=-1).astype(mx.int32))


class _Filters:
    """top_k, top_p and min_p, which rule out all but the best."""

    def __init__(self, rows: list[int], rules: list[Rules]) -> None:
        self._rows = mx.array(rows)
        self._top_k = mx.array([rule.top_k for rule in rules])[:, None]
        self._top_p = mx.array([rule.top_p for rule in rules], mx.float32)[:, None]
        min_p = np.array([rule.min_p for rule in rules], np.float32)
        with np.errstate(divide="ignore"):
            self._below_best = mx.array(np.log(min_p))[:, None]
        self._sorts = any(rule.top_k > 0 or rule.top_p < 1.0 for rule in rules)
        self._candidates = MOST_CANDIDATES if _has_few_candidates(rules[0]) else None

    @classmethod
    def of(cls, rules: Sequence[Rules]) -> list[_Filters]:
        """Those with few candidates apart, whoever the others are: no sum depends on company."""
        rows = [row for row, rule in enumerate(rules) if rule.filters]
        few = [row for row in rows if _has_few_candidates(rules[row])]
        many = [row for row in rows if row not in few]
        return [cls(group, [rules[row] for row in group]) for group in (few, many) if group]

    def apply(self, logits: mx.array) -> mx.array:
        mine = logits[self._rows]
        kept = mine >= mx.max(mine, axis=-1, keepdims=True) + self._below_best
        if self._sorts:
            kept &= self._among_best(mine)
        logits[self._rows] = mx.where(kept, mine, -mx.inf)
        return logits

    def _among_best(self, mine: mx.array) -> mx.array:
        """What top_k and top_p leave; of equals at the end, the first ones, so that k are k."""
        falling = self._falling(mine)
        ranks = mx.arange(falling.shape[-1])[None]
        among_k = (self._top_k <= 0) | (ranks < self._top_k)
        chances = mx.softmax(mx.where(among_k, falling, -mx.inf), axis=-1)
        before = mx.cumsum(chances, axis=-1) - chances
        kept = among_k & ((before < self._top_p) | (ranks == 0))
        threshold = mx.min(mx.where(kept, falling, mx.inf), axis=-1, keepdims=True)
        above, equal = mine > threshold, mine == threshold
        room = mx.sum(kept, axis=-1, keepdims=True) - mx.sum(above, axis=-1, keepdims=True)
        return above | (equal & (mx.cumsum(equal.astype(mx.int32), axis=-1) <= room))

    def _falling(self, mine: mx.array) -> mx.array:
        """The logits that may be kept, in falling order."""
        if self._candidates is not None and self._candidates < mine.shape[-1]:
            mine = mx.topk(mine, self._candidates, axis=-1)
        return -mx.sort(-mine, axis=-1)


def _has_few_candidates(rule: Rules) -> bool:
    return 0 < rule.top_k <= MOST_CANDIDATES

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
from worker.engine.model.device import has_gpu
from worker.engine.sampling.penalties import Bias

BELOW_ONE = 1.0 - 2.0**-22
"""Keeps float32 rounding from drawing beyond the last probable token."""

COLDEST = 1e-6
"""Below it the best token is all there is: logits divided by such a temperature are no numbers."""

MOST_CANDIDATES = 256
"""With a top_k up to this, no more tokens than this are put in order."""

WHOLE = 2**30
"""Of all chances together, as integers."""
ALL, LOWEST = 2**31 - 1, -(2**31)

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

    temperature = given(sampling.temperature, defaults.temperature)
    return Rules(
        seed=(sampling.seed + choice) & 0xFFFF_FFFF_FFFF_FFFF,
        temperature=temperature if temperature >= COLDEST else 0.0,
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
        vocabulary: how many logits a row has.
    """

    def __init__(self, rules: Sequence[Rules], vocabulary: int) -> None:
        temperatures = np.array([rule.temperature for rule in rules], np.float32)
        self._seeds = np.array([rule.seed for rule in rules], np.uint64)
        self.greedy = not temperatures.any()
        self._is_greedy = mx.array(temperatures == 0.0)
        self._all_sampled = bool(temperatures.all())
        self._scale = mx.array(1.0 / np.where(temperatures > 0, temperatures, 1.0))[:, None]
        # A GPU sorts in a few passes over the vocabulary, and a search takes 32.
        self._filters = _Filters.of(rules, sorts=has_gpu())
        self._bias = Bias.of(rules, vocabulary)

    def biased(self, logits: mx.array) -> mx.array:
        """With each row's `logit_bias`."""
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
        chosen = draw(scaled, mx.array(numbers))
        if self._all_sampled:
            return chosen
        return mx.where(self._is_greedy, mx.argmax(logits, axis=-1).astype(mx.int32), chosen)


def draw(logits: mx.array, numbers: mx.array) -> mx.array:
    """The first token whose cumulated probability exceeds the row's number; NOTHING where there are
    no probabilities.

    The sums are of float32, and computed in parts: they may fall from one token to the next, or
    never exceed the number. A token without a chance is not drawn for that.
    """
    chances = mx.softmax(logits, axis=-1)
    cumulated = mx.cumsum(chances, axis=-1)
    wanted = numbers[:, None] * cumulated[:, -1:]
    last = logits.shape[-1]
    reached = (cumulated > wanted) & (chances > 0)
    drawn = mx.min(mx.where(reached, mx.arange(last), last), axis=-1).astype(mx.int32)
    drawn = mx.where(drawn < last, drawn, mx.argmax(chances, axis=-1).astype(mx.int32))
    its_chance = mx.take_along_axis(chances, drawn[:, None], axis=-1)[:, 0]
    return mx.where(its_chance > 0, drawn, NOTHING)


def narrowed(logits: mx.array, rules: Sequence[Rules], *, sorts: bool) -> mx.array:
    """What top_k, top_p and min_p leave of each row's logits, -inf in the place of the others.

    Args:
        sorts: whether the vocabulary is put in order, rather than searched; both keep the same.
    """
    for filters in _Filters.of(rules, sorts=sorts):
        logits = filters.apply(logits)
    return logits


class _Filters:
    """top_k, top_p and min_p, which rule out all but the best.

    Of equals at the end the first ones stay, so that k are k. Chances are summed up as integers:
    in whatever order, the same ones stay.
    """

    def __init__(self, rows: list[int], rules: list[Rules], *, sorts: bool) -> None:
        self._rows = mx.array(rows)
        self._top_k = mx.array([rule.top_k or ALL for rule in rules])[:, None]
        shares = [int(rule.top_p * WHOLE) if rule.top_p < 1.0 else ALL for rule in rules]
        self._top_p = mx.array(shares, mx.int64)[:, None]
        min_p = np.array([rule.min_p for rule in rules], np.float32)
        with np.errstate(divide="ignore"):
            self._below_best = mx.array(np.log(min_p))[:, None]
        self._counts = any(rule.top_k > 0 for rule in rules)
        self._sums = any(rule.top_p < 1.0 for rule in rules)
        self._has_few = _has_few_candidates(rules[0])
        self._sorts = sorts

    @classmethod
    def of(cls, rules: Sequence[Rules], *, sorts: bool) -> list[_Filters]:
        """Those with few candidates apart, whoever the others are: no sum depends on company."""
        rows = [row for row, rule in enumerate(rules) if rule.filters]
        few = [row for row in rows if _has_few_candidates(rules[row])]
        many = [row for row in rows if row not in few]
        groups = [group for group in (few, many) if group]
        return [cls(group, [rules[row] for row in group], sorts=sorts) for group in groups]

    def apply(self, logits: mx.array) -> mx.array:
        mine = logits[self._rows]
        kept = mine >= mx.max(mine, axis=-1, keepdims=True) + self._below_best
        if self._counts or self._sums:
            kept &= self._among_best(mine)
        best = mx.where(kept, mine, -mx.inf)
        if len(best) == len(logits):
            return best
        left = mx.array(logits)
        left[self._rows] = best
        return left

    def _among_best(self, mine: mx.array) -> mx.array:
        """What top_k and top_p leave."""
        if self._has_few and mine.shape[-1] > MOST_CANDIDATES:
            return self._sorted(mine, mx.topk(mine, MOST_CANDIDATES, axis=-1))
        return self._sorted(mine, mine) if self._sorts else self._searched(mine)

    def _sorted(self, mine: mx.array, candidates: mx.array) -> mx.array:
        falling = -mx.sort(-candidates, axis=-1)
        ranks = mx.arange(falling.shape[-1])[None]
        among_k = ranks < self._top_k
        masses = _masses(mx.where(among_k, falling, -mx.inf))
        kept = among_k & (mx.cumsum(masses, axis=-1) - masses < self._wanted(masses))
        threshold = mx.min(mx.where(kept, falling, mx.inf), axis=-1, keepdims=True)
        above = mx.sum(mine > threshold, axis=-1, keepdims=True)
        return _first(mine, threshold, mx.sum(kept, axis=-1, keepdims=True) - above)

    def _searched(self, mine: mx.array) -> mx.array:
        keys = _order(mine)
        kept = mx.ones(mine.shape, mx.bool_)
        if self._counts:
            threshold = _threshold(keys, kept.astype(mx.int32), self._top_k)
            above = mx.sum(keys > threshold, axis=-1, keepdims=True)
            kept = _first(keys, threshold, self._top_k - above)
        if self._sums:
            masses = _masses(mx.where(kept, mine, -mx.inf))
            wanted = self._wanted(masses)
            threshold = _threshold(keys, masses, wanted)
            above = mx.sum((keys > threshold) * masses, axis=-1, keepdims=True)
            each = mx.max((keys == threshold) * masses, axis=-1, keepdims=True)
            kept &= _first(keys, threshold, (wanted - above + each - 1) // mx.maximum(each, 1))
        return kept

    def _wanted(self, masses: mx.array) -> mx.array:
        """How much of all that mass top_p wants, [rows, 1]. Of 152,000 chances the sum in float32
        was seen to be wrong by 0.0002; theirs as integers is what it is."""
        total = mx.sum(masses, axis=-1, keepdims=True).astype(mx.int64)
        return mx.clip((self._top_p * total) // WHOLE, 1, ALL).astype(mx.int32)


def _masses(logits: mx.array) -> mx.array:
    """Each token's share of `WHOLE`, about."""
    return mx.round(mx.softmax(logits, axis=-1) * WHOLE).astype(mx.int32)


def _order(values: mx.array) -> mx.array:
    """Integers in the order of these float32 numbers."""
    bits = (values + 0.0).view(mx.int32)  # -0 becomes 0
    return bits ^ ((bits >> 31) & ALL)


def _threshold(keys: mx.array, weights: mx.array, wanted: mx.array) -> mx.array:
    """The highest key that is reached by so much weight, its own included, [rows, 1]; the lowest
    integer where all together are too light. Bit by bit, from the first."""
    low = mx.full(wanted.shape, LOWEST, mx.int32)
    high = mx.max(keys, axis=-1, keepdims=True) + 1
    for _ in range(32):
        middle = (low & high) + ((low ^ high) >> 1)
        # A product: a choice between numbers is branches on the CPU, which no one can predict.
        weight = mx.sum((keys >= middle) * weights, axis=-1, keepdims=True)
        reached = weight >= wanted
        low, high = mx.where(reached, middle, low), mx.where(reached, high, middle)
    return low


def _first(values: mx.array, threshold: mx.array, room: mx.array) -> mx.array:
    """Those above the threshold, and of those at it the first ones."""
    equal = values == threshold
    return (values > threshold) | (equal & (mx.cumsum(equal.astype(mx.int32), axis=-1) <= room))


def _has_few_candidates(rule: Rules) -> bool:
    return 0 < rule.top_k <= MOST_CANDIDATES

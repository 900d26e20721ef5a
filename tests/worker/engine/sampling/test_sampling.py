"""From logits to tokens: each row's own, whoever comes and goes beside it."""

from __future__ import annotations

from collections import Counter
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.messages import Sampling
from tests.properties import examples
from worker.engine.model.config import SamplingDefaults
from worker.engine.sampling import penalties, sampling
from worker.engine.sampling.penalties import Penalties, Said
from worker.engine.sampling.sampling import Rules, Sampler, rules_for

VOCABULARY = 24


def rules(seed: int = 1, **given_: Any) -> Rules:
    chosen = Sampling(seed=seed, **{"temperature": 1.0, **given_})
    return rules_for(chosen, SamplingDefaults(), 0)


def tokens_of(rows: list[Rules], logits: Any, positions: list[int] | None = None) -> list[int]:
    sampler = Sampler(rows, logits.shape[-1])
    chosen = sampler.choose(mx.array(logits), positions or [0] * len(rows))
    return [int(token) for token in np.array(chosen)]


class Speaker:
    """A penalized row, and what it has said."""

    def __init__(self, rule: Rules, prompt: list[int]) -> None:
        self.rule = rule
        self.prompt = prompt
        self.answer: list[int] = []
        self.fresh = True

    def expected(self, logits: Any) -> Any:
        """Its logits, after the penalties."""
        counts = Counter(self.answer)
        adjusted = logits.copy()
        for token in range(VOCABULARY):
            if counts[token] or token in self.prompt:
                value, factor = adjusted[token], self.rule.repetition_penalty
                adjusted[token] = value / factor if value > 0 else value * factor
            adjusted[token] -= self.rule.frequency_penalty * counts[token]
            adjusted[token] -= self.rule.presence_penalty * bool(counts[token])
        return adjusted


kinds: st.SearchStrategy[dict[str, Any]] = st.sampled_from(
    [
        {},
        {"repetition_penalty": 1.5},
        {"presence_penalty": 0.7},
        {"frequency_penalty": 0.4, "repetition_penalty": 1.2},
    ]
)


def lengths(data: st.DataObject) -> list[int]:
    """Of drafts; in half of all cases there are none."""
    most = data.draw(st.sampled_from([0, 3]))
    return data.draw(st.lists(st.integers(0, most), min_size=99, max_size=99))


def check_along(
    table: Penalties,
    rows: list[Speaker],
    newest: list[int],
    drafts: list[list[int]],
    chance: np.random.Generator,
) -> None:
    """After the newest token and each of a row's draft; then it says a part of the draft."""
    places = sum(len(draft) + 1 for draft in drafts)
    logits = chance.standard_normal((places, VOCABULARY)).astype(np.float32)
    fresh = [row.fresh for row in rows]
    if any(drafts):
        found = table.apply_along(mx.array(logits), mx.array(newest), fresh, drafts)
    else:
        found = table.apply(mx.array(logits), mx.array(newest), fresh)
    wanted, mine = [], iter(logits)
    for number, (row, draft) in enumerate(zip(rows, drafts, strict=True)):
        said = row.answer
        for count in range(len(draft) + 1):
            row.answer = [*said, *draft[:count]]
            wanted.append(row.expected(next(mine)))
        kept = int(chance.integers(0, len(draft) + 1))
        row.answer, row.fresh = [*said, *draft[:kept]], False
        table.take(number, draft[:kept])
    np.testing.assert_allclose(np.array(found), np.array(wanted), atol=1e-5)


@settings(max_examples=examples(40), deadline=None)
@given(data=st.data(), seed=st.integers(0, 1000))
def test_penalties_are_of_what_the_row_itself_has_said(data: st.DataObject, seed: int) -> None:
    chance = np.random.default_rng(seed)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(penalties, "BLOCK_PLACES", 2)
        table, rows = Penalties(VOCABULARY), list[Speaker]()
        for _ in range(data.draw(st.integers(1, 12))):
            new = [
                Speaker(rules(**kind), [int(t) for t in chance.integers(0, VOCABULARY, 5)])
                for kind in data.draw(st.lists(kinds, max_size=3))
            ]
            table.join([row.rule for row in new], [Said(row.prompt, row.answer) for row in new])
            rows += new
            if rows:
                newest = [int(token) for token in chance.integers(0, VOCABULARY, len(rows))]
                for row, token in zip(rows, newest, strict=True):
                    row.answer += [] if row.fresh else [token]
                drafts = [
                    [int(t) for t in chance.integers(0, VOCABULARY, n)] for n in lengths(data)
                ]
                check_along(table, rows, newest, drafts[: len(rows)], chance)
            gone = data.draw(st.sets(st.integers(0, 20)))
            keep = [number for number in range(len(rows)) if number not in gone]
            table.leave(keep)
            rows = [rows[number] for number in keep]


def test_a_bias_is_added_where_it_belongs() -> None:
    rows = [rules(logit_bias={3: 2.0, 5: -100.0}), rules(), rules(logit_bias={0: 1.0, 999: 9.0})]
    bias = penalties.Bias.of(rows, VOCABULARY)
    assert bias is not None
    found = np.array(bias.apply(mx.zeros((3, VOCABULARY))))
    assert {
        (int(r), int(t)): float(found[r, t]) for r, t in zip(*found.nonzero(), strict=True)
    } == {
        (0, 3): 2.0,
        (0, 5): -100.0,
        (2, 0): 1.0,
    }


def adversarial(chance: np.random.Generator, kind: str, size: int) -> Any:
    """Logits of one row."""
    plain = chance.normal(0, 3, size)
    made = {
        "plain": plain,
        "ties": np.round(plain),
        "all equal": np.full(size, -1.5),
        "two values": np.where(plain > 4, 2.0, -2.0),
        "mostly ruled out": np.where(plain > 5, plain, -np.inf),
        "one hot": np.where(np.arange(size) == chance.integers(size), 0.0, -np.inf),
        "one far ahead": np.where(np.arange(size) == chance.integers(size), 90.0, plain),
        "denormal": plain * 1e-41,
        "both zeros": np.where(plain > 0, 0.0, -0.0),
        "huge": plain * 1e30,
        "flat": plain * 1e-4,
    }[kind]
    return made.astype(np.float32)


KINDS = (
    *("plain", "ties", "all equal", "two values", "mostly ruled out", "one hot"),
    *("one far ahead", "denormal", "both zeros", "huge", "flat"),
)


def assert_best_are_kept(logits: Any, kept: Any, rule: Rules) -> None:
    """The plain rule: sort, count, sum up. A boundary may lie where rounding has put it."""
    order = np.argsort(-logits, kind="stable")
    order = order[logits[order] > -np.inf][: rule.top_k or None]
    exact = np.exp(logits[order].astype(np.float64) - float(logits[order[0]]))
    sums = np.cumsum(exact / exact.sum())
    stay = [token for token in np.flatnonzero(kept) if logits[token] > -np.inf]
    count = len(stay)
    assert sorted(stay) == sorted(order[:count])  # of equals the first ones
    rounding = 1e-6 + len(order) * 2.0**-31
    if rule.top_p == 1.0:
        assert count == len(order)
    else:
        assert count == 1 or sums[count - 2] < rule.top_p + rounding
        assert count == len(order) or sums[count - 1] > rule.top_p - rounding


@pytest.mark.parametrize("sorts", [False, True])
@settings(max_examples=examples(60), deadline=None)
@given(
    seed=st.integers(0, 10**6),
    chosen=st.lists(
        st.tuples(
            st.sampled_from(KINDS),
            st.sampled_from([0, 1, 3, 299, 300, 10**6]),
            st.sampled_from([1e-9, 0.1, 0.5, 0.9, 0.999999, 1.0]) | st.floats(0.001, 1.0),
        ),
        min_size=1,
        max_size=4,
    ),
)
def test_the_best_are_kept_and_of_equals_the_first(
    sorts: bool, seed: int, chosen: list[tuple[str, int, float]]
) -> None:
    chance = np.random.default_rng(seed)
    rows = [rules(top_k=top_k, top_p=top_p) for _, top_k, top_p in chosen]
    logits = np.stack([adversarial(chance, kind, 600) for kind, _, _ in chosen])
    narrowed = np.array(sampling.narrowed(mx.array(logits), rows, sorts=sorts))
    for mine, left, rule in zip(logits, narrowed, rows, strict=True):
        assert_best_are_kept(mine, left > -np.inf, rule)


@pytest.mark.parametrize("kind", KINDS)
def test_the_best_of_a_large_vocabulary_are_kept(kind: str) -> None:
    logits = adversarial(np.random.default_rng(5), kind, 152_000)
    rows = [rules(top_p=0.9), rules(top_p=0.99, top_k=5000)]
    narrowed = np.array(sampling.narrowed(mx.array(np.stack([logits] * 2)), rows, sorts=False))
    for left, rule in zip(narrowed, rows, strict=True):
        assert_best_are_kept(logits, left > -np.inf, rule)


@pytest.mark.parametrize("top_p", [1.0, 0.8])
@pytest.mark.parametrize("top_k", [1, 7])
def test_few_candidates_are_chosen_from_as_all_would_be(
    top_k: int, top_p: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    chance = np.random.default_rng(3)
    logits = chance.standard_normal((16, 400)).astype(np.float32)
    rows = [rules(seed, top_k=top_k, top_p=top_p) for seed in range(16)]
    few = tokens_of(rows, logits)
    monkeypatch.setattr(sampling, "MOST_CANDIDATES", 400)
    assert few == tokens_of(rows, logits)
    best = np.argsort(-logits, axis=-1)[:, :top_k]
    assert all(token in best[row] for row, token in enumerate(few))


def test_company_changes_no_token() -> None:
    chance = np.random.default_rng(4)
    kinds_: list[dict[str, Any]] = [
        {},
        {"top_k": 5},
        {"top_p": 0.6},
        {"min_p": 0.1},
        {"top_k": 300},
        {"temperature": 0.0},
    ]
    rows = [rules(seed, **kind) for seed, kind in enumerate(kinds_)]
    logits = chance.standard_normal((len(rows), 500)).astype(np.float32)
    together = tokens_of(rows, logits)
    alone = [tokens_of([rule], logits[number : number + 1])[0] for number, rule in enumerate(rows)]
    assert together == alone


@pytest.mark.parametrize("kind", [{}, {"top_p": 0.9}, {"top_k": 300}, {"top_k": 5}, {"min_p": 0.1}])
@pytest.mark.parametrize("wrong", [np.nan, np.inf])
def test_where_one_number_is_none_no_token_is_the_models(
    kind: dict[str, Any], wrong: float
) -> None:
    """Whatever can be computed of the others: it was the vocabulary's first token, for ever."""
    logits = np.random.default_rng(6).standard_normal((2, 600)).astype(np.float32)
    logits[0, 5] = wrong
    broken, whole = tokens_of([rules(**kind)] * 2, logits)
    assert broken == sampling.NOTHING
    assert whole != sampling.NOTHING


def test_a_token_without_a_chance_is_never_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even where the sums that they are drawn by fall, or never reach the number."""
    logits = np.full((1, 6), -np.inf, np.float32)
    logits[0, [1, 4]] = 0.0
    falling = mx.array([[0.0, 0.6, 0.4, 0.4, 1.0, 1.0]])  # token 2 has no chance
    monkeypatch.setattr(mx, "cumsum", lambda array, axis: falling)
    for number in (0.1, 0.45, 0.59):
        assert sampling.draw(mx.array(logits), mx.array([number])).tolist() == [1]
    assert sampling.draw(mx.array(logits), mx.array([0.7])).tolist() == [4]
    assert sampling.draw(mx.array(logits), mx.array([1.0])).tolist() == [1]

"""Rows of a decode batch in any order of coming, moving and going, against each of them alone."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from shared.messages import Job, ResponseFormat, Resume, Sampling
from tests.properties import examples
from tests.worker.engine.driving import GREEDY, Driver, job, picture, sampled
from worker.engine.cache import radix_tree, slot_table, slots
from worker.engine.cache.kv import is_plain
from worker.engine.cache.prefix import PrefixCache
from worker.engine.model.language import language_of
from worker.engine.options import EngineOptions
from worker.engine.prepare.grammar import GrammarMaker
from worker.engine.schedule.batch import DecodeBatch
from worker.engine.schedule.prefill import Prefill, Prefiller
from worker.engine.schedule.request import Request
from worker.engine.schedule.sequences import Chosen, Sequence, State

TOKENS = 14
MOST_ROWS = 7

RED, BLUE = picture("red"), picture("blue", (70, 120))
FORM = ResponseFormat(schema={"type": "array", "items": {"enum": ["a", "b"]}, "minItems": 4})
PENALIZED = Sampling(seed=16, temperature=0.0, presence_penalty=2.0, repetition_penalty=1.3)
ASKED: list[dict[str, Any]] = [
    {"text": "Hello", "sampling": GREEDY, "logprobs": 2},
    {"text": "How many shapes are there? " * 5, "sampling": sampled(2), "logprobs": 1},
    {"text": "What is it?", "images": [RED], "sampling": sampled(3, top_p=0.8), "logprobs": 0},
    {"text": "Compare them.", "images": [BLUE, RED], "sampling": GREEDY},
    {"text": "And you?", "sampling": PENALIZED, "logprobs": 0},
    {"text": "Name two. " * 3, "sampling": sampled(6, top_k=5), "response_format": FORM},
    {"text": "Go on.", "sampling": sampled(7, logit_bias={40: 4.0}), "max_tokens": 4},
    {"text": "Both of you.", "sampling": sampled(8), "choices": 2, "logprobs": 0},
]
"""Short and long, with pictures and without, each by other rules."""


class Rows:
    """A decode batch, and whoever is in it or has stepped aside."""

    def __init__(self, driver: Driver, jobs: list[tuple[Job, list[bytes]]]) -> None:
        model = driver.model
        self.driver, self.model, self.jobs = driver, model, jobs
        self.grammars = GrammarMaker(model.tokenizer, model.vocabulary, model.eos_ids, "")
        self.prompts = [driver.prompt(made) for made in jobs]
        self.begin(0)
        self.alone = [self._alone(number) for number in range(len(jobs))]

    def begin(self, prefix_cache_bytes: int) -> None:
        """With nobody, and nothing remembered."""
        plain = is_plain(self.model.new_cache())
        self.prefixes = PrefixCache(prefix_cache_bytes, plain=plain)
        self.prefiller = Prefiller(self.model, self.prefixes)
        self.batch = DecodeBatch(self.model)
        self.aside: list[Sequence] = []
        self.said: dict[Sequence, list[tuple[int, float]]] = {}

    def _alone(self, number: int) -> list[list[tuple[int, float]]]:
        """Tokens and log probabilities of each choice."""
        sequences = self.request(number).sequences
        for sequence in sequences:
            self.join([self._prefill([sequence])], together=False)
            while self.batch.busy:
                self.step()
        return [self.said[sequence] for sequence in sequences]

    # --- who comes -------------------------------------------------------------------------------

    def request(self, number: int, resumed: int = 0) -> Request:
        """A job's request, of which so many tokens of each answer have been said before."""
        made = self.jobs[number][0]
        if resumed:
            known = [[token for token, _ in said[:resumed]] for said in self.alone[number]]
            made = msgspec.structs.replace(made, resume=[Resume(tokens=tokens) for tokens in known])
        request = Request(made)
        language, defaults = language_of(self.model), self.model.defaults
        request.begin(self.prompts[number], self.grammars.make(made), language, defaults, None)
        for sequence in request.sequences:
            self.said[sequence] = self.alone[number][sequence.index][:resumed] if resumed else []
        return request

    def prefills(self, request: Request) -> list[Prefill]:
        sequences = request.unfinished
        alone = any(sequence.output_tokens for sequence in sequences)
        groups = [[sequence] for sequence in sequences] if alone else [sequences]
        return [self._prefill(group) for group in groups if group]

    def _prefill(self, sequences: list[Sequence]) -> Prefill:
        for sequence in sequences:
            sequence.move(State.PREFILLING)
        prefill = Prefill(sequences[0].request, sequences)
        assert self.prefiller.embed(prefill, 60.0)
        return prefill

    def join(self, prefills: list[Prefill], *, together: bool) -> None:
        able = [one for one in prefills if together and self._can_share(one)]
        for prefilled in (self.prefiller.together(able) or []) if len(able) > 1 else []:
            rows = [row for one in prefilled.prefills for row in one.begin_decoding()]
            self.batch.join(rows, prefilled.cache, is_batch=True)
        for prefill in prefills:
            if prefill.sequences[0].state is State.PREFILLING:
                while prefill.left:
                    self.prefiller.advance(prefill, 16)
                self.prefiller.keep(prefill)
                assert prefill.cache is not None
                self.batch.join(prefill.begin_decoding(), prefill.cache, is_batch=False)

    def _can_share(self, prefill: Prefill) -> bool:
        return self.prefiller.can_share(prefill) and len(prefill.sequences) == 1

    # --- a step, and who goes --------------------------------------------------------------------

    def step(self) -> None:
        self.batch.step(self._take)
        over = [row for row in self.batch.rows if row.complete]
        for row in over:
            self.remember(row)
        self.batch.leave(over)

    def _take(self, chosen: list[Chosen]) -> None:
        for item in chosen:
            if item.row.state is State.DECODING:
                item.row.push(item.token)
                self.said[item.row].append((item.token, item.logprob))

    def remember(self, row: Sequence) -> None:
        key = row.cache_key()
        if key is not None and self.prefixes.limit_bytes:
            self.prefixes.put(key, "", partial(self.batch.parts, row))

    def leave(self, rows: list[Sequence], *, aside: bool) -> None:
        for row in rows:
            self.remember(row)
            row.move(State.WAITING if aside else State.FINISHED)
        self.batch.leave(rows)
        self.aside += rows if aside else []

    def come_back(self) -> None:
        prefills = [self._prefill([row]) for row in self.aside]
        self.aside = []
        self.join(prefills, together=False)

    def check(self) -> None:
        for row, said in self.said.items():
            expected = self._expected(row)[: len(said)]
            assert [token for token, _ in said] == [token for token, _ in expected], row.request
            assert [p for _, p in said] == pytest.approx([p for _, p in expected], abs=1e-3)

    def _expected(self, row: Sequence) -> list[tuple[int, float]]:
        return self.alone[int(row.request.job.id)][row.index]


@pytest.fixture(scope="module", params=["qwen2_vl", "gemma3"])
def rows(request: pytest.FixtureRequest, checkpoint: Any) -> Iterator[Rows]:
    """Of a model whose rows have slots, and of one with sliding windows."""
    driver = Driver(EngineOptions(model_path=str(checkpoint(request.param))))
    jobs = [
        job(str(number), **{"max_tokens": TOKENS, "ignore_eos": True, **asked})
        for number, asked in enumerate(ASKED)
    ]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(slots, "BLOCK_TOKENS", 32)
        patch.setattr(slots, "BLOCK_SLOTS", 2)
        patch.setattr(slots, "FILL_AFTER_STEPS", 2)
        patch.setattr(slot_table, "VIEW_TOKENS", 4)
        patch.setattr(radix_tree, "NODE_TOKENS", 8)  # known starts end within pictures, too
        yield Rows(driver, jobs)


@settings(
    max_examples=examples(15),
    deadline=None,
    phases=[Phase.reuse, Phase.generate],  # to shrink a failure takes minutes
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(data=st.data(), remembered_tokens=st.sampled_from([0, 150, 1 << 17]))
def test_whoever_comes_and_goes_each_row_says_what_it_says_alone(
    rows: Rows, data: st.DataObject, remembered_tokens: int
) -> None:
    rows.begin(int(remembered_tokens * rows.model.bytes_per_token))
    numbers = st.lists(st.integers(0, len(ASKED) - 1), min_size=1, max_size=4)
    for _ in range(data.draw(st.integers(2, 8))):
        if len(rows.batch) < MOST_ROWS and (not rows.batch.busy or data.draw(st.booleans())):
            resumed = data.draw(st.sampled_from([0, 0, 0, 3]))
            new = [rows.request(number, resumed) for number in data.draw(numbers)]
            prefills = [prefill for request in new for prefill in rows.prefills(request)]
            rows.join(prefills, together=data.draw(st.booleans()))
        if data.draw(st.booleans()):
            rows.come_back()
        for _ in range(data.draw(st.integers(1, 6))):
            rows.step()
        going = data.draw(st.sets(st.integers(0, MOST_ROWS)))
        leaving = [row for place, row in enumerate(rows.batch.rows) if place in going]
        rows.leave(leaving, aside=data.draw(st.booleans()))
    rows.come_back()
    while rows.batch.busy:
        rows.step()
    rows.check()

"""Answers with drafts are those without, token for token, whatever the drafts are."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace as replaced

from shared.messages import Delta, Job, ResponseFormat, Resume, Sampling, Tool, ToolPolicy
from tests.properties import examples
from tests.worker.engine.conftest import MakeDriver
from tests.worker.engine.driving import Driver, Result, job, picture, sampled
from worker.engine.cache.slots import SlotLayer
from worker.engine.options import EngineOptions
from worker.engine.schedule import sequences
from worker.engine.schedule.pass_costs import measured
from worker.engine.schedule.speculation import foreseen

LOOK = Tool(
    name="look",
    parameters={
        "type": "object",
        "properties": {"at": {"enum": ["a", "b"]}},
        "required": ["at"],
        "additionalProperties": False,
    },
)
MARKS = ("</think>", "<tool_call>")
LIST = ResponseFormat(schema={"type": "array", "items": {"enum": ["ab", "a"]}, "minItems": 2})
TEXTS = ("Hello", "How many shapes are there? " * 3, "one two three one two three one two", "What?")
RED = picture("red")


@dataclass
class Drafts:
    """Of one row whose answer without drafts is known.

    Attributes:
        wrong: how likely each of its tokens is another one.
    """

    answer: Sequence[int]
    said: int
    wrong: float
    chance: random.Random
    vocabulary: int

    def push(self, token: int) -> None:
        self.said += 1

    def draft(self, most: int) -> list[int]:
        length = self.chance.choice([0, 1, 2, most, most])
        known = [*self.answer[self.said :], *[0] * length][:length]
        return [
            self.chance.randrange(self.vocabulary) if self.chance.random() < self.wrong else token
            for token in known
        ]


class Both:
    """One engine, asked with drafts and without."""

    def __init__(self, driver: Driver) -> None:
        self.driver = driver
        self.options = EngineOptions(model_path="", prefix_cache_bytes=0)

    def without(self, *jobs: tuple[Job, list[bytes]]) -> list[Result]:
        self.driver.engine.begin_anew(self.options)
        return [self.driver.solo(made) for made in jobs]

    def begin(self, known: dict[str, Result], wrong: float, seed: int) -> None:
        """Draft known answers, with so many faults."""

        def drafts(row: sequences.Sequence) -> Drafts:
            chance = random.Random(f"{seed} {row.request.job.id} {row.index}")
            answer = known[row.request.job.id].tokens_of(row.index)
            said, vocabulary = len(row.output_tokens), self.driver.model.vocabulary
            return Drafts(answer, said, wrong, chance, vocabulary)

        engine = self.driver.engine
        engine.speculation.drafter = drafts
        engine.begin_anew(replace(self.options, speculate="lookup"))

    def together(self, jobs: Sequence[tuple[Job, list[bytes]]], pauses: Sequence[int]) -> None:
        """Submit them one after the other, with so many steps in between."""
        for made, turns in zip(jobs, pauses, strict=True):
            self.driver.submit(made)
            for _ in range(turns):
                self.driver.turn()


def after(result: Result, tokens: int) -> list[Delta]:
    """What is told of each choice, in order, after so many of its tokens."""
    deltas, said = [], Counter[int]()
    for delta in sorted(result.deltas, key=lambda delta: delta.choice):
        said[delta.choice] += len(delta.tokens)
        if said[delta.choice] > tokens:
            deltas.append(delta)
    return deltas


def told(result: Result, tokens: int = 0) -> list[Any]:
    """All that a client learns after so many tokens, but for the log probabilities themselves."""
    events = [
        (
            d.choice,
            d.tokens,
            d.text,
            d.reasoning,
            d.tool_calls,
            d.finish_reason,
            [entry.token for entry in d.logprobs],
        )
        for d in after(result, tokens)
    ]
    if result.failed is not None:
        return [events, result.failed]
    usage = replaced(result.done.usage, drafted_tokens=0, accepted_draft_tokens=0)
    return [events, usage]


def logprobs(result: Result, tokens: int = 0) -> list[float]:
    entries = [entry for delta in after(result, tokens) for entry in delta.logprobs]
    return [value for entry in entries for value in (entry.logprob, *(x[2] for x in entry.top))]


@pytest.fixture(scope="module")
def both(checkpoint: Any) -> Iterator[Both]:
    driver = Driver(EngineOptions(model_path=str(checkpoint("qwen2_vl"))))
    foreseen = driver.engine.speculation.drafter
    yield Both(driver)
    driver.engine.speculation.drafter = foreseen


samplings = st.builds(
    Sampling,
    seed=st.integers(0, 1 << 40),
    temperature=st.sampled_from([0.0, 0.3, 1.0, 1.6]),
    top_p=st.sampled_from([None, None, 0.5, 0.95]),
    top_k=st.sampled_from([None, None, 3, 300]),
    min_p=st.sampled_from([None, None, 0.05]),
    repetition_penalty=st.sampled_from([None, 1.3, 0.8]),
    presence_penalty=st.sampled_from([0.0, 0.0, 1.5]),
    frequency_penalty=st.sampled_from([0.0, 0.0, 0.7, -0.5]),
    logit_bias=st.sampled_from([{}, {}, {40: 6.0, 41: 6.0}, {7: -100.0, 2: 5.0}]),
)
forms: Any = st.sampled_from(
    [
        {},
        {},
        {"response_format": LIST},
        {"tool_policy": ToolPolicy(tools=[LOOK], mode="required")},
        {"tool_policy": ToolPolicy(tools=[LOOK])},
    ]
)
fields = st.fixed_dictionaries(
    {
        "text": st.sampled_from(TEXTS),
        "images": st.sampled_from([(), (), (RED,)]),
        "sampling": samplings,
        "max_tokens": st.integers(1, 24),
        "logprobs": st.sampled_from([None, None, 0, 3]),
        "choices": st.sampled_from([1, 1, 2]),
        "ignore_eos": st.booleans(),
        "stop": st.sampled_from([[], [], ["e"], ["a", "t"], [" "]]),
        "form": forms,
        "thinks": st.booleans(),
    }
)


def asked(both: Both, name: str, given: dict[str, Any]) -> tuple[Job, list[bytes]]:
    """A job of these fields, in whose answer the marks of its family are likely."""
    given = dict(given)
    form, thinks = given.pop("form"), given.pop("thinks")
    vocabulary = both.driver.model.tokenizer.get_vocab()
    marks = {vocabulary[mark]: 4.0 for mark in MARKS} if thinks else {}
    sampling = given.pop("sampling")
    sampling = replaced(sampling, logit_bias={**sampling.logit_bias, **marks})
    options = {"enable_thinking": True} if thinks else {}
    return job(name, sampling=sampling, template_options=options, **form, **given)


def moved(made: tuple[Job, list[bytes]], result: Result, tokens: int) -> tuple[Job, list[bytes]]:
    """The same job after so many tokens of each answer, on its way to another worker."""
    told = [result.tokens_of(choice)[:tokens] for choice in range(made[0].choices)]
    return replaced(made[0], resume=[Resume(tokens=said) for said in told]), made[1]


@settings(
    max_examples=examples(25),
    deadline=None,
    phases=[Phase.reuse, Phase.generate],  # to shrink a failure takes minutes
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(data=st.data(), seed=st.integers(0, 1 << 30), wrong=st.sampled_from([0.0, 0.1, 0.5, 1.0]))
def test_drafts_change_nothing(both: Both, data: st.DataObject, seed: int, wrong: float) -> None:
    chosen: list[dict[str, Any]] = data.draw(st.lists(fields, min_size=1, max_size=4))
    jobs = [asked(both, str(number), each) for number, each in enumerate(chosen)]
    results = both.driver.results
    expected = {
        made.id: result for (made, _), result in zip(jobs, both.without(*jobs), strict=True)
    }
    begun = data.draw(st.lists(st.sampled_from([0, 0, 1, 5]), min_size=4, max_size=4))
    asked_again = [
        moved(made, expected[made[0].id], tokens) for made, tokens in zip(jobs, begun, strict=False)
    ]
    both.begin(expected, wrong, seed)
    pauses = data.draw(st.lists(st.integers(0, 4), min_size=len(jobs), max_size=len(jobs)))
    both.together(asked_again, pauses)
    if len(jobs) > 1 and data.draw(st.sampled_from([False, False, True])):
        both.driver.engine.cancel("0")
        del expected["0"]
    both.driver.until(lambda: all(results[name].over for name in expected))
    for name, without in expected.items():
        rest = told(without, begun[int(name)])
        assert told(results[name]) == rest, (jobs[int(name)], wrong)
        wanted = logprobs(without, begun[int(name)])
        assert logprobs(results[name]) == pytest.approx(wanted, abs=1e-3)


def passes(both: Both, patch: pytest.MonkeyPatch, made: tuple[Job, list[bytes]]) -> list[int]:
    """How many tokens a row went through the model in each call, to answer this."""
    widths: list[int] = []
    forward = both.driver.model.forward

    def look(tokens: Any, *given: Any, **named: Any) -> Any:
        widths.append(tokens.shape[1])
        return forward(tokens, *given, **named)

    with patch.context() as here:
        here.setattr(both.driver.model, "forward", look)
        both.driver.solo(made)
    return widths[1:]  # without the prompt


def test_right_drafts_take_fewer_passes(both: Both, monkeypatch: pytest.MonkeyPatch) -> None:
    made = job("x", sampling=sampled(3), max_tokens=34, ignore_eos=True)
    (without,) = both.without(made)
    both.begin({"x": without}, 0.0, 1)
    widths = passes(both, monkeypatch, made)
    assert len(widths) < 17 and sum(widths) >= 34 and max(widths) == 17
    speculation = both.driver.engine.speculation
    assert speculation.accepted == speculation.drafted == 34 - len(widths)
    usage = both.driver.results["x"].done.usage
    assert usage.drafted_tokens == usage.accepted_draft_tokens == speculation.drafted
    gauges = both.driver.engine.gauges()
    assert gauges["drafted_tokens"] == gauges["accepted_tokens"] == speculation.drafted


def test_what_repeats_itself_is_foreseen(both: Both, monkeypatch: pytest.MonkeyPatch) -> None:
    bias = Sampling(seed=1, temperature=0.0, logit_bias={40: 100.0})
    made = job("x", sampling=bias, max_tokens=40, ignore_eos=True)
    engine = both.driver.engine
    engine.speculation.drafter = foreseen
    engine.begin_anew(replace(both.options, speculate="lookup"))
    assert len(passes(both, monkeypatch, made)) < 15
    assert both.driver.results["x"].tokens == [40] * 40
    engine.begin_anew(both.options)
    assert len(passes(both, monkeypatch, made)) == 40


@pytest.mark.parametrize("family", ["gemma3", "mamba", "gpt_oss"])
def test_what_cannot_be_taken_back_is_not_drafted(family: str, drive: MakeDriver) -> None:
    driver = drive(family, speculate="lookup")
    bias = Sampling(seed=1, temperature=0.0, logit_bias={40: 100.0})
    result = driver.solo(job("x", sampling=bias, max_tokens=20, ignore_eos=True))
    assert result.tokens == [40] * 20
    assert driver.engine.gauges()["drafted_tokens"] == 0
    assert driver.engine.facts.proven["speculation"] is False


@pytest.mark.parametrize("speculate", ["off", "lookup"])
def test_an_expected_answer_comes_in_fewer_passes_and_is_counted(
    speculate: str, both: Both, monkeypatch: pytest.MonkeyPatch
) -> None:
    encode, decode = both.driver.model.tokenizer.encode, both.driver.model.tokenizer.decode
    token = next(t for t in range(40, 300) if encode(decode([t] * 24)) == [t] * 24)
    bias = Sampling(seed=1, temperature=0.0, logit_bias={token: 100.0})
    asked: dict[str, Any] = {"sampling": bias, "max_tokens": 24, "ignore_eos": True}
    (plain,) = both.without(job("x", **asked))
    engine = both.driver.engine
    engine.speculation.drafter = foreseen
    engine.begin_anew(replace(both.options, speculate=speculate))
    made = job("x", prediction=plain.text + "!", choices=2, **asked)
    count = len(passes(both, monkeypatch, made))
    result = both.driver.results["x"]
    assert result.tokens_of(0) == result.tokens_of(1) == plain.tokens
    usage = result.done.usage
    assert (usage.accepted_prediction_tokens, usage.rejected_prediction_tokens) == (48, 2)
    assert count == (24 if speculate == "off" else 2)


def test_what_passes_cost_is_measured_whatever_was_asked_before(both: Both) -> None:
    both.without(job("x", "Hello " * 9))
    costs = measured(both.driver.model).measured
    assert set(costs[1]) == {1, 4, 16}
    for each in costs.values():
        assert list(each.values()) == sorted(each.values()) and min(each.values()) >= 1.0


def test_a_pass_with_drafts_that_fails_costs_nobody_an_answer(
    both: Both, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = job("x", sampling=sampled(3), max_tokens=24, ignore_eos=True)
    (without,) = both.without(made)
    both.begin({"x": without}, 0.0, 1)
    forward = both.driver.model.forward

    def too_wide(tokens: Any, cache: Any, *given: Any, **named: Any) -> Any:
        if tokens.shape[1] > 1 and isinstance(cache[0], SlotLayer):
            raise RuntimeError("[malloc] Unable to allocate 1 bytes.")
        return forward(tokens, cache, *given, **named)

    monkeypatch.setattr(both.driver.model, "forward", too_wide)
    assert told(both.driver.solo(made)) == told(without)
    assert not both.driver.engine.speculation.on

"""Each row of a batch belongs to its own request: rules, randomness, limits, ends."""

from __future__ import annotations

from typing import Any

import pytest

from shared.messages import Sampling
from tests.worker.engine.conftest import MakeDriver
from tests.worker.engine.driving import GREEDY, Result, assistant, job, picture, sampled, user
from worker.engine.prepare.tokens import TextTokenizer, Tokens

RULES: dict[str, dict[str, Any]] = {
    "greedy": {"sampling": GREEDY},
    "hot": {"sampling": sampled(11, temperature=1.5)},
    "top_p": {"sampling": sampled(12, top_p=0.5)},
    "top_k": {"sampling": sampled(13, top_k=5)},
    "min_p": {"sampling": sampled(14, min_p=0.2)},
    "repetition": {"sampling": sampled(15, repetition_penalty=1.5)},
    "presence": {"sampling": Sampling(seed=16, temperature=0.0, presence_penalty=2.0)},
    "frequency": {"sampling": sampled(17, frequency_penalty=1.5)},
    "bias": {"sampling": sampled(18, logit_bias={40: 30.0, 41: -100.0})},
    "logprobs": {"sampling": sampled(19), "logprobs": 3},
    "short": {"sampling": sampled(20), "max_tokens": 3},
}


def ask(name: str, **fields: Any) -> Any:
    return job(name, f"Hello, this is {name}.", **{"max_tokens": 16, **fields})


def test_every_row_follows_its_own_rules_in_any_company(anew: MakeDriver) -> None:
    solos = {name: anew().solo(ask(name, **fields)) for name, fields in RULES.items()}
    together = anew().run(*(ask(name, **fields) for name, fields in RULES.items()))
    for (name, solo), batched in zip(solos.items(), together, strict=True):
        assert batched.tokens == solo.tokens, name
        assert batched.finish_reason == solo.finish_reason, name
    assert together[-1].finish_reason == "length"
    assert len(together[-1].tokens) == 3


def test_a_row_that_joins_later_changes_nothing_for_those_before(anew: MakeDriver) -> None:
    first, late = ask("first", sampling=sampled(3), max_tokens=30), ask("late")
    alone = [anew().solo(first), anew().solo(late)]
    driver = anew()
    driver.submit(first)
    driver.until(lambda: len(driver.results["first"].tokens) >= 7)
    driver.submit(late)
    driver.until(lambda: all(result.over for result in driver.results.values()))
    assert [driver.results[name].tokens for name in ("first", "late")] == [
        result.tokens for result in alone
    ]


@pytest.mark.parametrize("opens", [GREEDY, sampled(9, temperature=1.5)], ids=["greedy", "hot"])
def test_logprobs_of_one_who_joins_are_its_own(opens: Sampling, anew: MakeDriver) -> None:
    late = ask("late", sampling=sampled(4), logprobs=3)
    alone = anew().solo(late)
    driver = anew()
    driver.submit(ask("first", sampling=opens, max_tokens=40, ignore_eos=True))
    driver.until(lambda: len(driver.results["first"].tokens) >= 3)
    joined = driver.solo(late)
    assert joined.tokens == alone.tokens
    said, expected = (
        [entry.logprob for delta in result.deltas for entry in delta.logprobs]
        for result in (joined, alone)
    )
    assert said == pytest.approx(expected, abs=1e-3)
    assert len(said) > 3 and any(logprob < -0.01 for logprob in said)


def test_seeds_repeat_and_differ(anew: MakeDriver) -> None:
    driver = anew()
    same = [driver.solo(ask("x", sampling=sampled(5))).tokens for _ in range(2)]
    other = driver.solo(ask("x", sampling=sampled(6))).tokens
    assert same[0] == same[1]
    assert other != same[0]


def test_choices_share_the_prompt_and_are_seeded_one_by_one(
    drive: MakeDriver, anew: MakeDriver
) -> None:
    driver = drive()
    images = [picture("red")]
    shared = driver.solo(job("n", "What?", images, sampling=sampled(30), choices=3))
    singles = [
        anew().solo(job(str(i), "What?", images, sampling=sampled(30 + i))) for i in range(3)
    ]
    assert [shared.tokens_of(i) for i in range(3)] == [single.tokens for single in singles]
    assert len({tuple(shared.tokens_of(i)) for i in range(3)}) == 3
    assert driver.engine.gauges()["vision_cache_misses"] == 1
    assert shared.done.usage.completion_tokens == sum(len(s.tokens) for s in singles)
    finished = [delta.choice for delta in shared.deltas if delta.finish_reason]
    assert sorted(finished) == [0, 1, 2]


def test_deltas_are_numbered_without_gaps(anew: MakeDriver) -> None:
    for result in anew().run(ask("a", choices=2), ask("b")):
        assert [delta.sequence for delta in result.deltas] == list(range(len(result.deltas)))


def test_top_k_of_one_is_greedy(anew: MakeDriver) -> None:
    driver = anew()
    greedy = driver.solo(ask("x"))
    assert driver.solo(ask("x", sampling=sampled(9, top_k=1))).tokens == greedy.tokens
    assert driver.solo(ask("x", sampling=sampled(9, top_p=1e-6))).tokens == greedy.tokens
    assert driver.solo(ask("x", sampling=sampled(9, min_p=1.0))).tokens == greedy.tokens


def test_bias_forces_and_forbids(anew: MakeDriver) -> None:
    driver = anew()
    forced = driver.solo(ask("x", sampling=Sampling(seed=1, temperature=0, logit_bias={70: 100.0})))
    assert set(forced.tokens) == {70}
    free = driver.solo(ask("x")).tokens
    without = Sampling(seed=1, temperature=0, logit_bias={free[0]: -100.0})
    assert driver.solo(ask("x", sampling=without)).tokens[0] != free[0]


def test_a_presence_penalty_forbids_what_was_said(anew: MakeDriver) -> None:
    bias = dict.fromkeys(range(60, 70), 50.0)
    rules = Sampling(seed=1, temperature=0, logit_bias=bias, presence_penalty=100.0)
    said = anew().solo(ask("x", sampling=rules, max_tokens=10)).tokens
    assert sorted(said) == list(range(60, 70))


def test_logprobs_are_the_models_own_and_sorted(anew: MakeDriver) -> None:
    driver = anew()
    greedy = driver.solo(ask("x", logprobs=4))
    entries = [entry for delta in greedy.deltas for entry in delta.logprobs]
    assert len(entries) == len(greedy.tokens)
    for entry in entries:
        values = [logprob for _, _, logprob in entry.top]
        assert values == sorted(values, reverse=True)
        assert entry.logprob == pytest.approx(values[0])
        assert entry.logprob < 0.0
        assert bytes(entry.bytes).decode("utf-8", "replace") == entry.token
    assert not any(delta.logprobs for delta in driver.solo(ask("y")).deltas)


def test_a_bias_for_a_token_that_there_is_not_is_refused_by_name(anew: MakeDriver) -> None:
    driver = anew()
    vocabulary = driver.model.vocabulary
    highest = driver.solo(ask("x", sampling=sampled(logit_bias={vocabulary - 1: 1.0})))
    assert highest.failed is None
    beyond = driver.solo(ask("y", sampling=sampled(logit_bias={3: 1.0, vocabulary: 1.0})))
    assert beyond.failed is not None
    assert beyond.failed.code == "invalid_request"
    assert beyond.failed.param == f"logit_bias.{vocabulary}"


def test_the_last_token_says_how_it_ended(anew: MakeDriver) -> None:
    driver = anew()
    free = driver.solo(ask("x", max_tokens=12))
    assert free.finish_reason == "length"
    assert len(free.tokens) == 12
    eos = min(driver.model.eos_ids)
    ending = Sampling(seed=1, temperature=0, logit_bias={eos: 200.0})
    ended = driver.solo(ask("y", sampling=ending, logprobs=1))
    assert (ended.finish_reason, ended.text, ended.tokens) == ("stop", "", [eos])
    assert not ended.deltas[-1].logprobs
    going_on = driver.solo(ask("z", sampling=ending, ignore_eos=True, max_tokens=5))
    assert (going_on.finish_reason, going_on.tokens) == ("length", [eos] * 5)


def test_stop_strings_end_an_answer_and_do_not_show(anew: MakeDriver) -> None:
    driver = anew()
    text = driver.solo(ask("x", max_tokens=16)).text
    stop = text[6:9]
    stopped = driver.solo(ask("x", max_tokens=16, stop=[stop]))
    assert stopped.finish_reason == "stop"
    assert stopped.text == text[: text.index(stop)]
    assert stopped.done.stops == [stop]
    both = driver.solo(ask("x", max_tokens=16, choices=2, stop=["no such text", stop]))
    assert both.done.stops == [stop, stop]
    assert driver.solo(ask("x", max_tokens=4, stop=["no such text"])).done.stops == []


def test_a_stop_string_frees_the_row_while_others_go_on(anew: MakeDriver) -> None:
    driver = anew()
    stop = driver.solo(ask("x", max_tokens=16)).text[3:6]
    driver.submit(ask("other", max_tokens=60, ignore_eos=True))
    driver.submit(ask("x", max_tokens=50, stop=[stop], ignore_eos=True))
    driver.until(lambda: driver.results["x"].over)
    assert driver.engine.gauges()["rows"] == 1
    driver.until(lambda: driver.results["other"].over)
    assert len(driver.results["other"].tokens) == 60


def test_an_answer_without_a_limit_ends_with_the_context(anew: MakeDriver) -> None:
    driver = anew(max_context=64)
    result = driver.solo(ask("x", max_tokens=None, ignore_eos=True))
    usage = result.done.usage
    assert result.finish_reason == "length"
    assert usage.prompt_tokens + usage.completion_tokens == 64


def test_a_prompt_beyond_the_context_is_refused(anew: MakeDriver) -> None:
    driver = anew(max_context=64)
    failed = driver.solo(job("x", "too long " * 60)).failed
    assert failed is not None
    assert (failed.code, failed.param) == ("context_length_exceeded", "messages")
    assert failed.context_tokens == 64 and (failed.prompt_tokens or 0) > 64
    assert "maximum context length is 64 tokens" in failed.message


def test_a_prompt_far_beyond_the_context_is_refused_unread(
    anew: MakeDriver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tokenizing 20 MB takes half a minute, and a hundredth of it shows that it is too long."""
    driver = anew(max_context=64)
    longest = max(map(len, driver.model.tokenizer.get_vocab()))
    monkeypatch.setattr(TextTokenizer, "read", None)
    for made in (job("x", "x" * 64 * longest), job("y", prompt="x" * 64 * longest)):
        failed = driver.solo(made).failed
        assert failed is not None and failed.code == "context_length_exceeded"
        assert f"resulted in at least {failed.prompt_tokens} tokens" in failed.message
        assert 64 <= (failed.prompt_tokens or 0) < 80


def test_a_prediction_longer_than_any_answer_is_refused_unread(
    anew: MakeDriver, monkeypatch: pytest.MonkeyPatch
) -> None:
    driver = anew(max_context=64)
    longest = max(map(len, driver.model.tokenizer.get_vocab()))
    read = TextTokenizer.read

    def read_short(tokenizer: TextTokenizer, text: str, **options: bool) -> Tokens:
        assert len(text) < 64 * longest
        return read(tokenizer, text, **options)

    monkeypatch.setattr(TextTokenizer, "read", read_short)
    failed = driver.solo(job("x", "Hello", prediction="x" * 64 * longest)).failed
    assert failed is not None
    assert (failed.code, failed.param) == ("invalid_request", "prediction")
    assert driver.solo(job("y", "Hello", prediction="x" * 63)).failed is None


def test_a_prompt_of_token_ids_is_the_same_as_its_text(anew: MakeDriver) -> None:
    driver = anew()
    text = "Once upon a time"
    ids = driver.model.tokenizer.encode(text)
    as_text, as_ids = driver.run(
        job("a", prompt=text, echo=True), job("b", prompt_ids=ids, echo=True)
    )
    assert as_ids.tokens == as_text.tokens
    assert as_ids.text == as_text.text and as_ids.text.startswith(text)
    assert as_ids.done.usage.prompt_tokens == len(ids)


def test_token_ids_that_the_model_has_not_are_refused(anew: MakeDriver) -> None:
    driver = anew()
    failed = driver.solo(job("a", prompt_ids=[1, driver.model.vocabulary])).failed
    assert failed is not None and failed.code == "invalid_request"


def test_more_rows_than_there_is_room_for_wait_their_turn(anew: MakeDriver) -> None:
    jobs = [ask(str(i), sampling=sampled(i)) for i in range(7)]
    few, many = anew(max_rows=2).run(*jobs), anew(max_rows=64).run(*jobs)
    assert [result.tokens for result in few] == [result.tokens for result in many]


def test_a_long_prompt_is_echoed_in_parts(
    anew: MakeDriver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In one it could be longer than a message to a gateway may be, which cuts the connection."""
    monkeypatch.setattr("worker.engine.schedule.request.ECHO_CHARACTERS", 10)
    text = "The image shows a red circle."
    result = anew().solo(job("x", prompt=text, echo=True, choices=2, max_tokens=1))
    for choice in range(2):
        parts = [delta.text for delta in result.deltas if delta.choice == choice]
        assert parts[:3] == [text[:10], text[10:20], text[20:]]
    assert [delta.sequence for delta in result.deltas] == list(range(len(result.deltas)))


def test_completions_take_a_raw_prompt_and_echo_it(anew: MakeDriver) -> None:
    driver = anew()
    made, images = job("x", prompt="The image shows", echo=True)
    result = driver.solo((made, images))
    assert result.text.startswith("The image shows")
    plain = driver.solo(job("y", prompt="The image shows"))
    assert result.text == "The image shows" + plain.text


@pytest.mark.parametrize("family", ["qwen2_vl", "qwen3_vl", "llama", "gemma3", "gpt_oss"])
def test_a_prompt_may_be_one_token(family: str, anew: MakeDriver) -> None:
    """Nothing is in the cache yet when it is fed: alone after others, and in company."""
    driver = anew(family)
    long = job("long", "Hello to you all", max_tokens=30, ignore_eos=True)
    alone = driver.solo(job("alone", prompt_ids=[40], ignore_eos=True)).tokens
    assert len(alone) == 10
    rest = driver.solo(job("rest", prompt_ids=[40, alone[0]], max_tokens=9, ignore_eos=True))
    assert rest.tokens == alone[1:]
    driver.submit(long)
    driver.until(lambda: len(driver.results["long"].tokens) > 3)
    both = driver.run(*(job(name, prompt_ids=[40], ignore_eos=True) for name in "ab"))
    assert [result.tokens for result in both] == [alone, alone]


def test_a_final_assistant_message_is_continued(anew: MakeDriver) -> None:
    driver = anew()
    made = job("x", [user("What?"), assistant("The image")], continue_final_message=True)
    assert driver.render(made).endswith("The image")
    assert isinstance(driver.solo(made), Result)

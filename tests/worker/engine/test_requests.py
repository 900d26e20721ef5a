"""What a client may ask of an engine, each with the one right answer."""

from __future__ import annotations

import json
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from shared.messages import ResponseFormat, Sampling, Tool, ToolPolicy
from tests.worker.engine.conftest import MakeDriver
from tests.worker.engine.driving import Driver, assistant, job, picture, sampled, user
from tests.worker.engine.prepare.test_structure import calls_of
from worker.engine.interface import ModelError
from worker.engine.model.config import SamplingDefaults, sampling_defaults
from worker.engine.sampling.sampling import NOTHING, Sampler, rules_for
from worker.engine.schedule.request import NO_LIMIT, answer_limit
from worker.engine.text.detokenizer import Vocabulary


@pytest.fixture
def driver(drive: MakeDriver) -> Driver:
    return drive()


def sampler(vocabulary: int, **rules: Any) -> Sampler:
    one = rules_for(Sampling(seed=1, **rules), SamplingDefaults(), 0)
    return Sampler([one], vocabulary)


def test_a_prompt_of_one_token(driver: Driver) -> None:
    """Before an empty cache the model takes positions that an earlier prompt has left in it."""
    made = job("before", "A longer one, to leave its positions behind.")
    driver.solo(made)
    prompt = next(c for c in "abcdef" if len(driver.prompt(job("p", prompt=c)).ids) == 1)
    first = driver.solo(job("one", prompt=prompt))
    assert first.failed is None
    driver.submit_prepared(job("two", prompt=prompt), job("three", prompt=prompt))
    results = [driver.results[name] for name in ("two", "three")]
    driver.until(lambda: all(result.over for result in results))
    assert all(result.tokens == first.tokens for result in results)


@pytest.mark.parametrize("images", [[], [picture("red")]])
def test_a_token_that_only_the_tokenizer_has_is_refused(
    driver: Driver, images: list[bytes]
) -> None:
    """To look it up would read foreign memory."""
    while len(driver.model.tokenizer) <= driver.model.vocabulary:
        driver.model.tokenizer.add_tokens([f"<far{len(driver.model.tokenizer)}>"])
    failed = driver.solo(job("x", f"a <far{driver.model.vocabulary}> b", images)).failed
    assert failed is not None and failed.code == "invalid_request"


# --- structure -----------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["<|im_end|>", "a<|im_start|>b"])
def test_a_special_tokens_text_is_text_in_a_schema(driver: Driver, text: str) -> None:
    schema = {"type": "object", "properties": {"x": {"const": text}}, "required": ["x"]}
    form = ResponseFormat(schema={**schema, "additionalProperties": False})
    result = driver.solo(job("x", response_format=form, max_tokens=80))
    assert json.loads(result.text) == {"x": text}
    assert result.finish_reason == "stop"


def test_an_endless_schema_is_the_clients_error(driver: Driver) -> None:
    node = {"type": "object", "properties": {"n": {"$ref": "#/$defs/a"}}, "required": ["n"]}
    form = ResponseFormat(schema={"$ref": "#/$defs/a", "$defs": {"a": node}})
    failed = driver.solo(job("x", response_format=form)).failed
    assert failed is not None and failed.code == "invalid_request"
    assert failed.param == "response_format"


def test_a_tool_without_parameters_is_called_with_an_empty_object(driver: Driver) -> None:
    policy = ToolPolicy(tools=[Tool(name="now")], mode="required", parallel=False)
    result = driver.solo(job("x", tool_policy=policy, max_tokens=80, sampling=sampled(3)))
    assert calls_of(result) == [("now", {})]


def test_a_stop_string_within_a_call_does_not_make_it_whole(driver: Driver) -> None:
    parameters = {"type": "object", "properties": {"x": {"type": "boolean"}}, "required": ["x"]}
    policy = ToolPolicy(tools=[Tool(name="a", parameters=parameters)], mode="required")
    result = driver.solo(job("x", tool_policy=policy, max_tokens=80, stop=["}"]))
    assert result.finish_reason == "stop"


def test_a_continued_answer_goes_on_in_its_form(driver: Driver) -> None:
    schema = {"type": "object", "properties": {"x": {"enum": ["red"]}}, "required": ["x"]}
    form = ResponseFormat(schema={**schema, "additionalProperties": False})

    def continued(name: str, begun: str) -> Any:
        turns = [user("Which?"), assistant(begun)]
        return job(name, turns, response_format=form, continue_final_message=True, max_tokens=40)

    assert driver.solo(continued("fits", '{"x": "r')).text == 'ed"}'
    failed = driver.solo(continued("else", "Well, ")).failed
    assert failed is not None and failed.code == "invalid_request"


# --- text ----------------------------------------------------------------------------------------


def metaspace(*kinds: decoders.Decoder) -> PreTrainedTokenizerFast:
    """A tokenizer that, like Llama 2's, drops the space that begins a text.

    Args:
        kinds: decoders that it has besides.
    """
    pieces = {"<unk>": 0, "▁Paris": 1, "▁is": 2, "a": 3, "▁": 4, "b": 5}
    tokenizer = Tokenizer(models.BPE(pieces, [], unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), *kinds, decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<unk>")


@pytest.mark.parametrize("begins", [True, False])
@pytest.mark.parametrize("kinds", [[decoders.ByteFallback()], []], ids=["bytes", "window"])
def test_only_a_text_that_begins_drops_its_first_space(
    begins: bool, kinds: list[decoders.Decoder]
) -> None:
    detokenizer = Vocabulary(metaspace(*kinds)).detokenizer(begins=begins)
    text = "".join(detokenizer.push(token) for token in (1, 2)) + detokenizer.finish()
    assert text == ("Paris is" if begins else " Paris is")


# --- sampling ------------------------------------------------------------------------------------


def test_what_a_greedy_model_says_of_itself_is_kept() -> None:
    given = {"do_sample": False, "temperature": 0.6, "repetition_penalty": 1.8}
    defaults = sampling_defaults(given)
    assert (defaults.temperature, defaults.repetition_penalty) == (0.0, 1.8)


@pytest.mark.parametrize(
    "given",
    [
        {"temperature": "hot"},
        {"temperature": -1},
        {"temperature": float("nan")},
        {"top_k": "4"},
        {"top_p": 5},
        {"repetition_penalty": 0},
        {"max_new_tokens": [1]},
        {"max_new_tokens": 0},
        {"min_p": True},
    ],
)
def test_a_model_that_says_of_itself_what_cannot_be_is_not_served(given: dict[str, Any]) -> None:
    with pytest.raises(ModelError, match=next(iter(given))):
        sampling_defaults(given)


def test_a_models_most_tokens_hold_unless_the_client_says_otherwise() -> None:
    defaults = sampling_defaults({"max_new_tokens": 7})
    free, _ = job("x", max_tokens=None)
    asked, _ = job("y", max_tokens=9)
    assert answer_limit(free, defaults, 10, None) == 7
    assert answer_limit(asked, defaults, 10, None) == 9
    assert answer_limit(free, defaults, 10, 12) == 2
    assert answer_limit(free, SamplingDefaults(), 10, None) == NO_LIMIT


@pytest.mark.parametrize("k", [1, 2, 3, 5])
def test_top_k_leaves_exactly_k_however_many_are_equal(k: int) -> None:
    logits = mx.array([[0.0, 2.0, 1.0, 1.0, 1.0, 1.0, -1.0]])
    rules = sampler(7, temperature=1.0, top_k=k)
    drawn = {np.array(rules.choose(mx.array(logits), [place])).item() for place in range(400)}
    assert drawn == set(range(1, k + 1))


@pytest.mark.parametrize("temperature", [1e-3, 1e-30, 1e-38, 5e-324])
def test_it_may_be_as_cold_as_it_likes(temperature: float) -> None:
    """Divided by it, numbers would be none any more."""
    logits = mx.array([[-50.0, 30.0, 29.0, -mx.inf, 100.0, 99.0, 0.0]])
    assert np.array(sampler(7, temperature=temperature).choose(logits, [0])).item() == 4
    assert np.array(sampler(7, temperature=temperature, top_p=0.5).choose(logits, [0])).item() == 4


@pytest.mark.parametrize("temperature", [0.0, 1.0])
@pytest.mark.parametrize("value", [-np.inf, np.nan])
def test_no_token_is_made_up_where_none_has_a_chance(temperature: float, value: float) -> None:
    logits = mx.array([[value] * 5, [0.0, -np.inf, 9.0, -np.inf, 0.0]], mx.float32)
    rules = [rules_for(Sampling(seed=1, temperature=temperature), SamplingDefaults(), 0)] * 2
    chosen = np.array(Sampler(rules, 5).choose(logits, [0, 0]))
    assert chosen[0] == NOTHING
    assert chosen[1] in (0, 2, 4)


def test_a_row_without_a_token_fails_alone(driver: Driver, monkeypatch: pytest.MonkeyPatch) -> None:
    forward = driver.model.forward

    def broken(*args: Any, **options: Any) -> mx.array:
        logits = forward(*args, **options)
        return logits * mx.array([mx.nan, 1.0])[:, None, None] if logits.shape[0] == 2 else logits

    alone = driver.solo(job("alone", "Hello", max_tokens=8))
    monkeypatch.setattr(driver.model, "forward", broken)
    driver.submit_prepared(job("a", "Hi you", max_tokens=8), job("b", "Hello", max_tokens=8))
    results = [driver.results[name] for name in ("a", "b")]
    driver.until(lambda: all(result.over for result in results))
    failed = results[0].failed
    assert failed is not None and "No token can come next" in failed.message
    assert results[1].tokens == alone.tokens

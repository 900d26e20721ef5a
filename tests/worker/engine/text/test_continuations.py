"""Where a text goes on from another: its first space, and what it is part of."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers
from transformers import AutoTokenizer

from scripts.checkpoints.building import build
from shared.messages import Resume, Sampling
from tests.worker.engine.conftest import MakeDriver
from tests.worker.engine.driving import Result, assistant, job, user

PARIS = "▁Paris"


def with_metaspace(folder: Path) -> Path:
    """Give a checkpoint a tokenizer like Llama 2's, which drops the space that begins a text. Added
    tokens keep their ids."""
    added = AutoTokenizer.from_pretrained(folder).added_tokens_decoder
    words = [*(f"<0x{byte:02X}>" for byte in range(256)), "▁", PARIS, "▁Rome"]
    words += [f"▁unused{index}" for index in range(len(words), min(added))]
    tokens = {word: index for index, word in enumerate(words)}
    made = Tokenizer(models.BPE(vocab=tokens, merges=[], byte_fallback=True))
    made.normalizer = normalizers.Sequence(
        [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
    )
    made.decoder = decoders.Sequence(
        [
            decoders.Replace("▁", " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(" ", 1, 0),
        ]
    )
    for token in sorted(added):
        name, special = str(added[token].content), added[token].special
        made.add_tokens([AddedToken(name, special=special, normalized=False)])
    made.save(str(folder / "tokenizer.json"))
    return folder


@pytest.fixture(scope="module")
def metaspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return with_metaspace(build("llama", tmp_path_factory.mktemp("metaspace")))


@pytest.fixture
def saying_paris(metaspace: Path, drive: MakeDriver) -> Callable[..., Result]:
    """An engine whose model says nothing but Paris."""
    driver = drive(model_path=metaspace)
    token = driver.model.tokenizer.convert_tokens_to_ids(PARIS)
    sampling = Sampling(seed=1, temperature=0.0, logit_bias={token: 100.0})

    def say(name: str, *args: Any, **fields: Any) -> Result:
        return driver.solo(job(name, *args, sampling=sampling, max_tokens=2, **fields))

    return say


def test_the_first_space_of_a_continuation_is_said(saying_paris: Callable[..., Result]) -> None:
    prompt = "the capital of France is"
    assert saying_paris("plain", prompt=prompt).text == " Paris Paris"
    assert saying_paris("echo", prompt=prompt, echo=True).text == f"{prompt} Paris Paris"
    ids = saying_paris("ids", prompt_ids=[70, 71, 72])
    assert ids.text == " Paris Paris"
    begun = [user("The capital?"), assistant("It is")]
    assert saying_paris("turn", begun, continue_final_message=True).text == " Paris Paris"
    assert saying_paris("new", [user("The capital?")]).text == "Paris Paris"


def test_an_answer_that_moved_keeps_its_first_space(
    metaspace: Path, saying_paris: Callable[..., Result]
) -> None:
    token = AutoTokenizer.from_pretrained(metaspace).convert_tokens_to_ids(PARIS)
    resume = [Resume(tokens=[token])]
    assert saying_paris("raw", prompt="It is", resume=resume).text == " Paris"
    assert saying_paris("chat", [user("The capital?")], resume=resume).text == " Paris"


def test_a_raw_prompt_may_end_within_a_thought(drive: MakeDriver) -> None:
    """Its answer is text like any other: there is nowhere else to show it."""
    driver = drive()
    answer = driver.solo(job("x", prompt="What is it? <think>\n", ignore_eos=True))
    assert answer.text
    assert not any(delta.reasoning for delta in answer.deltas)

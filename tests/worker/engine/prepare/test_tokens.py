"""A long text's tokens are those that the tokenizer gives, and nobody is held up by it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as examples_of
from hypothesis import strategies as st
from tokenizers import (
    AddedToken,
    Regex,
    Tokenizer,
    models,
    normalizers,
    pre_tokenizers,
    processors,
)
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from tests.properties import examples
from worker.engine.prepare.literal import FIRST, ITSELF, MARK, Literals
from worker.engine.prepare.tokens import TextTokenizer
from worker.settings import BUILT_IN_MODEL

BYTES = [f"<0x{byte:02X}>" for byte in range(256)]
LETTERS = sorted(pre_tokenizers.ByteLevel.alphabet())
ACCENTS = "\u0313\u0300\u0345"
"""That make one letter of an alpha and themselves."""


def bpe(words: list[str], **options: Any) -> Tokenizer:
    return Tokenizer(models.BPE({word: id for id, word in enumerate(words)}, [], **options))


def of_bytes(*, composes: bool = False) -> Tokenizer:
    """Like Qwen's, Llama 3's or GPT's."""
    made = bpe([*LETTERS, "Ġ" * 8])
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    if composes:
        made.normalizer = normalizers.NFC()
    made.add_special_tokens([AddedToken("<|im_end|>", special=True)])
    return made


def of_pieces(**options: Any) -> Tokenizer:
    """Like Gemma's or Llama 2's."""
    made = bpe(["<unk>", *BYTES, "▁", "a", "▁a"], unk_token="<unk>", **options)
    steps = [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
    made.normalizer = normalizers.Sequence(steps)
    made.post_processor = processors.TemplateProcessing(
        single="<unk> $A", special_tokens=[("<unk>", 0)]
    )
    return made


def of_words() -> Tokenizer:
    made = Tokenizer(models.WordPiece({"[UNK]": 0, "a": 1}, unk_token="[UNK]"))
    made.normalizer = normalizers.BertNormalizer()
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    return made


def dropping(*, spaces: bool = False, runs: bool = False, eater: bool = False) -> Tokenizer:
    made = of_bytes()
    if spaces:
        made.pre_tokenizer = pre_tokenizers.Sequence(
            [pre_tokenizers.Split(" ", "removed"), made.pre_tokenizer]
        )
    if runs:
        made.normalizer = normalizers.Replace(Regex(" +"), " ")
    if eater:
        made.add_special_tokens([AddedToken("<s>", special=True, rstrip=True)])
    return made


KEEPING: dict[str, Callable[[], Tokenizer]] = {
    "demo": lambda: AutoTokenizer.from_pretrained(BUILT_IN_MODEL).backend_tokenizer,
    "bytes": of_bytes,
    "composing": lambda: of_bytes(composes=True),
    "pieces": lambda: of_pieces(byte_fallback=True),
    "unknown-each": lambda: of_pieces(fuse_unk=False),
}
DROPPING: dict[str, Callable[[], Tokenizer]] = {
    "words": of_words,
    "unknown-fused": lambda: of_pieces(fuse_unk=True),
    "letters-lacking": lambda: bpe(["a"]),
    "spaces": lambda: dropping(spaces=True),
    "runs": lambda: dropping(runs=True),
    "eater": lambda: dropping(eater=True),
}


def subject(name: str) -> tuple[PreTrainedTokenizerFast, TextTokenizer]:
    """Of that name, with the marks of literals."""
    made = (KEEPING | DROPPING)[name]()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=made, pad_token="a")
    Literals(tokenizer, None)
    return tokenizer, TextTokenizer(tokenizer)


SUBJECTS = {name: subject(name) for name in KEEPING | DROPPING}
TEXTS = st.lists(
    st.sampled_from([*" a\n\tä你🙂", " " * 30, "a" * 40, "<|im_end|>", "<s>", MARK, FIRST + ITSELF])
    | st.just(f"α{ACCENTS}")
    | st.text(max_size=5),
    max_size=12,
).map("".join)


@pytest.mark.parametrize("name", SUBJECTS)
@given(text=TEXTS, add_special_tokens=st.booleans())
@examples_of(max_examples=examples(40))
def test_they_are_those_that_the_tokenizer_gives(
    name: str, text: str, add_special_tokens: bool
) -> None:
    tokenizer, reader = SUBJECTS[name]
    expected = tokenizer.encode(text, add_special_tokens=add_special_tokens)
    found = reader.read(text, add_special_tokens=add_special_tokens)
    assert (found.ids, len(found)) == (expected, len(expected))


@pytest.mark.parametrize("name", KEEPING)
@given(text=TEXTS)
@examples_of(max_examples=examples(40))
def test_there_are_never_fewer_than_was_said(name: str, text: str) -> None:
    tokenizer, reader = SUBJECTS[name]
    plain = text.replace(MARK, "").replace(FIRST + ITSELF, FIRST)
    assert reader.fewest(plain) <= len(tokenizer.encode(text, add_special_tokens=False))


@pytest.mark.parametrize(
    ("name", "text", "fewest"),
    [
        ("bytes", "x" * 1001, 101),  # the longest is <|im_end|>
        ("bytes", "ä" * 1001, 101),
        ("composing", "x" * 1001, 101),
        ("composing", f"α{ACCENTS}" * 250 + "x", 26),
        ("pieces", "x" * 1001, 167),  # <0x00>
        *((name, "x" * 1001, 0) for name in DROPPING),
    ],
)
def test_how_few_there_may_be_is_known_where_nothing_is_dropped(
    name: str, text: str, fewest: int
) -> None:
    assert SUBJECTS[name][1].fewest(text) == fewest


def test_reading_leaves_alone_what_pictures_have_set() -> None:
    """Who sets it waits, with the interpreter locked, until a long text of another is read."""
    tokenizer, reader = subject("demo")
    ours = tokenizer("a", padding=True)["input_ids"]
    set_by_them = tokenizer.backend_tokenizer.padding
    assert set_by_them is not None
    assert reader.read("a").ids == ours
    assert tokenizer.backend_tokenizer.padding == set_by_them


@pytest.mark.parametrize(
    "settings", [{"truncation": True, "max_length": 3}, {"padding": True, "pad_to_multiple_of": 8}]
)
def test_what_others_have_set_changes_no_tokens(settings: dict[str, Any]) -> None:
    tokenizer, reader = subject("demo")
    expected = tokenizer.encode("Tell me more.")
    assert tokenizer("Tell me more.", **settings)["input_ids"] != expected
    assert reader.read("Tell me more.").ids == expected


def test_a_tokenizer_with_ways_of_its_own_is_asked_by_them() -> None:
    class Backwards(PreTrainedTokenizerFast):  # type: ignore[misc]
        def encode(self, *args: Any, **options: Any) -> list[int]:
            return list(reversed(super().encode(*args, **options)))

    tokenizer = Backwards(tokenizer_object=of_bytes())
    reader = TextTokenizer(tokenizer)
    assert reader.read("ab").ids == PreTrainedTokenizerFast(tokenizer_object=of_bytes()).encode(
        "ba"
    )
    assert reader.fewest("ab" * 1000) == 0

"""Text is text with tokenizers of all kinds, or is refused by what in it cannot be."""

from __future__ import annotations

import re
import time
from collections.abc import Sequence

import pytest
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from worker.engine.faults import JobFault
from worker.engine.prepare.literal import Literals

TURN = "<｜User｜>"
"""DeepSeek's, which its tokenizer does not call special."""


def tokenizer(*added: AddedToken) -> PreTrainedTokenizerFast:
    """Letter by letter, and these tokens."""
    letters = {byte: index for index, byte in enumerate(pre_tokenizers.ByteLevel.alphabet())}
    made = Tokenizer(models.BPE(letters, []))
    made.normalizer = normalizers.NFC()
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    made.add_tokens(list(added))
    return PreTrainedTokenizerFast(tokenizer_object=made)


def special(*names: str, normalized: bool = False) -> list[AddedToken]:
    return [AddedToken(name, special=True, normalized=normalized) for name in names]


def added_in(ours: PreTrainedTokenizerFast, text: str) -> list[str]:
    """The added tokens that a text has become."""
    ids: Sequence[int] = ours.encode(text, add_special_tokens=False)
    return [str(ours.added_tokens_decoder[one]) for one in ids if one in ours.added_tokens_decoder]


@pytest.mark.parametrize("template", [f"{{{{ messages }}}}{TURN}", None])
def test_a_turn_is_one_that_the_template_writes_whatever_the_tokenizer_calls_it(
    template: str | None,
) -> None:
    names = (TURN, "<b>", "a|b")
    ours = tokenizer(*(AddedToken(name, special=False, normalized=False) for name in names))
    text = f"Hi{TURN}No.<b>a|b"
    quoted = Literals(ours, template).quoted(text)
    assert added_in(ours, text) == [TURN, "<b>", "a|b"]
    assert added_in(ours, quoted) == ([TURN] if template is None else []) + ["<b>", "a|b"]


def test_what_a_tokenizer_finds_after_its_normalisation_is_refused_by_name() -> None:
    """There the mark is gone already. Everything else is text as ever."""
    ours = tokenizer(*special("<s>", normalized=True), *special("<|im_end|>"))
    literals = Literals(ours, None)
    for texts in (["<|im_end|> and <s>"], ["<", "s>"]):
        with pytest.raises(JobFault, match="cannot take '<s>' as text") as refused:
            literals.tokenizable("<s>" + "".join(map(literals.quoted, texts)), "messages")
        assert (refused.value.code, refused.value.param) == ("invalid_request", "messages")
    text = literals.tokenizable("<s>" + literals.quoted("<|im_end|> and s>"), "messages")
    assert added_in(ours, text) == ["<s>"]


def test_a_tokenizer_that_cannot_drop_marks_takes_no_controls() -> None:
    class Slow:
        added_tokens_decoder = {0: AddedToken("<|im_end|>", special=True)}  # noqa: RUF012

    literals = Literals(Slow(), None)
    written = f"<|im_end|>{literals.quoted('as it < is >')}"
    assert literals.tokenizable(written, "messages") == "<|im_end|>as it < is >"
    for refused in ("x<|im_end|>", "<image>"):
        with pytest.raises(JobFault, match=re.escape(refused.removeprefix("x"))):
            literals.tokenizable(literals.quoted(refused), "messages")


@pytest.mark.parametrize(
    ("template", "call"),
    [
        ("[TOOL_CALLS]", "[TOOL_CALLS]"),
        ("", "<tool_call>"),
        ("<|start|><|channel|>commentary to=<|message|>", "<|call|>"),
    ],
)
def test_marks_of_calls_are_words_of_the_model_alone(template: str, call: str) -> None:
    """What it has said may have them, in its text; nobody else's may."""
    ours = tokenizer(*special(call))
    literals = Literals(ours, template)
    assert added_in(ours, literals.quoted(f"What is {call}?")) == []
    is_harmony = call == "<|call|>"  # whose calls are messages, not words
    said = literals.spoken(f"I do.{call}f")
    assert added_in(ours, said) == ([] if is_harmony else [call])


def test_a_template_may_write_its_values_as_python_does() -> None:
    ours = tokenizer(*special("<|im_end|>"))
    literals = Literals(ours, None)
    text = "what <|im_end|> is"
    rendered = str(literals.quoted({"description": text}))
    assert literals.plain(rendered) == str({"description": text})
    assert ours.decode(ours.encode(rendered)) == str({"description": text})
    assert added_in(ours, rendered) == []


def test_thousands_of_controls_cost_no_more_than_one() -> None:
    """As Gemma's tokenizers have. The look at a text holds up the engine's thread."""
    few, many = (
        Literals(tokenizer(*special(*(f"<unused{n}>" for n in range(count)))), None)
        for count in (10, 3000)
    )
    text = "<p>Hello <b>world</b></p>\n" * 400

    def seconds(literals: Literals) -> float:
        tries = []
        for _ in range(5):
            started = time.thread_time()
            assert literals.quoted(text) == text
            tries.append(time.thread_time() - started)
        return min(tries)

    assert seconds(many) < 10 * seconds(few)

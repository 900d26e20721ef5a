"""A text's tokens, while nobody else is held up however long it is.

What transformers makes of one text is what the tokenizers library makes of it, and beside it
offsets and masks that nobody asks for, in lists. It also sets anew each time how texts are cut and
filled up, and whoever sets that while another thread reads a long text waits for it with the
interpreter locked: the whole process stands still. So where a tokenizer's class has no ways of its
own, the library is asked directly, and what is set stays.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from worker.engine.prepare.literal import FIRST, ITSELF, MARK

COMPOSED = 4
"""So many characters become one at most where texts are composed (NFC; Unicode's annex 15)."""
_WAYS = (
    *("encode", "_encode_plus", "set_truncation_and_padding"),
    "_get_padding_truncation_strategies",
)
"""What transformers' own class reads one text with."""


class Tokens(Protocol):
    """What a text has become; the list of ids is made each time it is asked for."""

    @property
    def ids(self) -> list[int]: ...

    def __len__(self) -> int: ...


@dataclass(frozen=True)
class Listed:
    """Tokens that are a list already."""

    ids: list[int]

    def __len__(self) -> int:
        return len(self.ids)


class TextTokenizer:
    """
    Args:
        tokenizer: transformers'. Others may use it meanwhile.
    """

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self._backend = tokenizer.backend_tokenizer if _has_no_own_ways(tokenizer) else None
        self._most_characters = 0
        """That a token may stand for; 0: not known."""
        self._composes = False
        if self._backend is not None and _keeps_all(self._backend):
            vocabulary = self._backend.get_vocab(with_added_tokens=True)
            self._most_characters = max(map(len, vocabulary), default=0)
            self._composes = "NFC" in _kinds(self._backend.normalizer)

    def read(self, text: str, *, add_special_tokens: bool = False) -> Tokens:
        """Return what `tokenizer.encode` does."""
        backend = self._backend
        if backend is None or not self._is_left_whole(backend):
            listed = self._tokenizer.encode(text, add_special_tokens=add_special_tokens)
            return Listed(list(listed))
        # In a batch of one: the call for a single text keeps the interpreter locked.
        tokens: Tokens
        (tokens,) = backend.encode_batch_fast([text], add_special_tokens=add_special_tokens)
        return tokens

    def fewest(self, text: str) -> int:
        """Return how many tokens a text is going to have at least, without reading it; 0 where
        that is not known."""
        if not self._most_characters:
            return 0
        most = self._most_characters * (COMPOSED if self._composes and not text.isascii() else 1)
        return -(-len(text) // most)

    def _is_left_whole(self, backend: Tokenizer) -> bool:
        """Whether a text alone is neither cut nor filled up, as processors may have it."""
        padding = backend.padding
        if padding is not None and (padding["length"] or padding["pad_to_multiple_of"]):
            return False
        split_special: bool = self._tokenizer.split_special_tokens
        return backend.truncation is None and backend.encode_special_tokens == split_special


def _has_no_own_ways(tokenizer: Any) -> bool:
    kind, own = type(tokenizer), getattr(tokenizer, "__dict__", {})
    return isinstance(tokenizer, PreTrainedTokenizerFast) and all(
        getattr(kind, way) is getattr(PreTrainedTokenizerFast, way) and way not in own
        for way in _WAYS
    )


def _keeps_all(backend: Tokenizer) -> bool:
    """Whether each character of a text is in one of its tokens, whatever the text: none is dropped,
    and none of those that the vocabulary lacks makes one token with others."""
    steps = [*_steps(backend.normalizer), *_steps(backend.pre_tokenizer)]
    eats_spaces = any(
        added.lstrip or added.rstrip for added in backend.get_added_tokens_decoder().values()
    )
    return all(map(_drops_nothing, steps)) and not eats_spaces and _knows_all(backend)


def _drops_nothing(step: dict[str, Any]) -> bool:
    """Whether such a normalizer or pre-tokenizer keeps each character, or puts another in place.
    Marks within literals may go, which are nothing that a client wrote."""
    match step["type"]:
        case "NFC" | "Prepend" | "ByteLevel" | "Metaspace" | "Digits":
            return True
        case "Split" | "Punctuation":
            return bool(step["behavior"] != "Removed")
        case "Replace":
            found = step["pattern"].get("String")
            if found in (MARK, FIRST + ITSELF):
                return True
            return found is not None and len(found) <= len(step["content"])
        case _:
            return False


def _knows_all(backend: Tokenizer) -> bool:
    model = backend.model
    if not isinstance(model, models.BPE):
        return False
    if model.byte_fallback:
        return all(model.token_to_id(f"<0x{byte:02X}>") is not None for byte in range(256))
    steps = (*_kinds(backend.normalizer), *_kinds(backend.pre_tokenizer))
    if "ByteLevel" in steps:
        letters = pre_tokenizers.ByteLevel.alphabet()
        return all(model.token_to_id(letter) is not None for letter in letters)
    return model.unk_token is not None and not model.fuse_unk


def _kinds(part: Any) -> set[str]:
    return {step["type"] for step in _steps(part)}


def _steps(part: Any) -> Iterator[dict[str, Any]]:
    """What a normalizer or pre-tokenizer does, one after the other, as its file says."""
    if part is not None:
        yield from _flat(json.loads(part.__getstate__()))


def _flat(step: dict[str, Any]) -> Iterator[dict[str, Any]]:
    if step["type"] != "Sequence":
        yield step
    for one in (*step.get("normalizers", ()), *step.get("pretokenizers", ())):
        yield from _flat(one)

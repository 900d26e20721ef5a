"""From token ids to text, a token at a time, in time linear in the answer's length.

Most tokenizers are a table from ids to bytes: byte-level BPE (Qwen, Llama 3, GPT) and
SentencePiece with byte fallback (Llama 2, Gemma). For those, text is what an incremental UTF-8
decoder makes of the bytes, and half a character stays inside until its rest comes. Any other
tokenizer is asked to decode a short window of tokens.
"""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Callable, Sequence
from typing import Any, Protocol

BYTE_TOKEN = re.compile(r"<0x([0-9A-Fa-f]{2})>")
WORD = "a"
WINDOW_TOKENS = 6
"""A character has at most 4 bytes, so no more tokens than that can wait for its end."""


class Detokenizer(Protocol):
    def push(self, token: int) -> str:
        """Return the text that is certain now; never half a character."""

    def finish(self) -> str:
        """Return what was held back; an unfinished character becomes U+FFFD."""


class Vocabulary:
    """What single tokens say. Shared by all answers.

    Args:
        shown: special tokens that are text to us (they mark tool calls or reasoning).
    """

    def __init__(self, tokenizer: Any, shown: frozenset[str] = frozenset()) -> None:
        self._tokenizer = tokenizer
        self._added = {
            token_id: str(added.content)
            for token_id, added in tokenizer.added_tokens_decoder.items()
        }
        self.hidden = frozenset(
            token_id
            for token_id, added in tokenizer.added_tokens_decoder.items()
            if added.special and str(added.content) not in shown
        )
        self._to_bytes = _byte_reader(tokenizer)
        self._known: dict[int, bytes] = {}
        self._word: list[int] = []
        if self._to_bytes is None:
            self._word = list(tokenizer.encode(WORD, add_special_tokens=False))
        self._trims = self._to_bytes is _sentencepiece_bytes and _trims_first_space(tokenizer)

    def detokenizer(self, *, begins: bool = True) -> Detokenizer:
        """
        Args:
            begins: the text begins with its first token; else it goes on from another, whose
                words it must not be joined to.
        """
        if self._to_bytes is None:
            before = [] if begins else self._word
            return WindowDetokenizer(self._tokenizer, self.hidden, before)
        return ByteDetokenizer(self, trim_space=self._trims and begins)

    def added_token(self, token: int) -> str | None:
        """What it is called if it is one that was added to the vocabulary: no text has it."""
        return self._added.get(token)

    def bytes_of(self, token: int) -> bytes:
        """The bytes that a token adds to a text; also for tokens that are not shown."""
        known = self._known.get(token)
        if known is None:
            known = self._known[token] = self._look_up(token)
        return known

    def _look_up(self, token: int) -> bytes:
        if token in self._added:
            return self._added[token].encode()
        piece = self._tokenizer.convert_ids_to_tokens(token)
        if piece is None:
            return b""  # the model's vocabulary may be padded beyond the tokenizer's
        if self._to_bytes is None:
            return str(self._tokenizer.decode([token])).encode()
        return self._to_bytes(str(piece))


class ByteDetokenizer:
    def __init__(self, vocabulary: Vocabulary, *, trim_space: bool) -> None:
        self._vocabulary = vocabulary
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._trim_space = trim_space

    def push(self, token: int) -> str:
        if token in self._vocabulary.hidden:
            return ""
        text = self._decoder.decode(self._vocabulary.bytes_of(token))
        if self._trim_space and text:
            self._trim_space = False
            text = text.removeprefix(" ")
        return text

    def finish(self) -> str:
        return self._decoder.decode(b"", final=True)


class WindowDetokenizer:
    """Decodes the last few tokens with and without the newest and takes the difference.

    Args:
        before: tokens of any text that it goes on from: a word in front shows how the first token
            is written after one.
    """

    def __init__(self, tokenizer: Any, hidden: frozenset[int], before: Sequence[int] = ()) -> None:
        self._tokenizer = tokenizer
        self._hidden = hidden
        self._window = list(before)
        self._waiting = 0

    def push(self, token: int) -> str:
        if token in self._hidden:
            return ""
        self._window.append(token)
        self._waiting += 1
        text = self._difference()
        if text.endswith("\ufffd") and self._waiting < WINDOW_TOKENS:
            return ""
        self._settle()
        return text

    def finish(self) -> str:
        text = self._difference()
        self._settle()
        return text

    def _difference(self) -> str:
        settled = self._window[: len(self._window) - self._waiting]
        before = str(self._tokenizer.decode(settled)) if settled else ""
        return str(self._tokenizer.decode(self._window))[len(before) :]

    def _settle(self) -> None:
        self._waiting = 0
        self._window = self._window[-WINDOW_TOKENS:]


def _byte_reader(tokenizer: Any) -> Callable[[str], bytes] | None:
    """How a piece of the vocabulary is turned into bytes; None where there is no such way."""
    if not tokenizer.is_fast:
        return None
    decoder = tokenizer.backend_tokenizer.decoder
    kinds = _kinds(json.loads(decoder.__getstate__())) if decoder is not None else set()
    if "ByteLevel" in kinds:
        return _byte_level_bytes
    if "ByteFallback" in kinds or "Metaspace" in kinds:
        return _sentencepiece_bytes
    return None


def _kinds(decoder: dict[str, Any]) -> set[str]:
    kinds = {str(decoder.get("type"))}
    for part in decoder.get("decoders", ()):
        kinds |= _kinds(part)
    return kinds


def _byte_alphabet() -> dict[str, int]:
    """GPT-2's alphabet: printable bytes stand for themselves, the others follow from U+0100."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    alphabet = {chr(byte): byte for byte in printable}
    others = (byte for byte in range(256) if byte not in set(printable))
    alphabet.update({chr(0x100 + i): byte for i, byte in enumerate(others)})
    return alphabet


BYTE_OF = _byte_alphabet()


def _byte_level_bytes(piece: str) -> bytes:
    if all(character in BYTE_OF for character in piece):
        return bytes(BYTE_OF[character] for character in piece)
    return piece.encode()


def _sentencepiece_bytes(piece: str) -> bytes:
    byte = BYTE_TOKEN.fullmatch(piece)
    if byte is not None:
        return bytes([int(byte[1], 16)])
    return piece.replace("▁", " ").encode()


def _trims_first_space(tokenizer: Any) -> bool:
    """Whether this tokenizer drops the space that begins a text (Llama 2 does, Gemma does not)."""
    for token, token_id in tokenizer.get_vocab().items():
        if token.startswith("▁") and len(token) > 2:
            return not str(tokenizer.decode([token_id])).startswith(" ")
    return False
